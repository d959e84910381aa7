"""The alphabet, against the table in the specification: apostrophe, space, a-z, and the blank last."""

from vuilab.alphabet import BLANK, NUM_CLASSES, char_map, index_map


def test_the_classes_are_apostrophe_space_and_the_letters_in_order():
    assert char_map["'"] == 0
    assert char_map[" "] == 1
    assert [char_map[letter] for letter in "abcdefghijklmnopqrstuvwxyz"] == list(range(2, 28))
    assert len(char_map) == 28


def test_the_blank_is_the_29th_and_last_class():
    assert (BLANK, NUM_CLASSES) == (28, 29)
    assert BLANK not in index_map


def test_the_two_maps_are_each_other_s_inverse():
    assert {index_map[index]: index for index in range(28)} == char_map
