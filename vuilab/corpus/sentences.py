"""The sentences of the demo corpus: a small grammar of everyday English, written for this project.

`RULES` maps a slot to its alternatives, separated by ` | `; `{slot}` stands for another rule. Add an
alternative and new sentences follow. Words in `HELD_OUT` never reach training or validation, so that a fifth
of the test sentences can ask for a word that the model has not heard.
"""

import re
from collections.abc import Callable

import numpy as np

RULES = {
    "sentence": """{who} left the {thing} {place} | {who} {cleaned} the {room} {past}
        | there is a {look} {thing} {place} | please put the {thing} {place}
        | can you find the {look} {thing} | where did you put the {thing} | {who} {made} {food} for {meal}
        | i'd like {drink} and {food} | the {dish} tastes {taste} | don't eat the {dish} before {meal}
        | it's {weather} {now} | it was {weather} {past} | we couldn't see the {landmark} in the {fog}
        | the {look} {animal} {ran} {path} | {who} saw {number} {animals} {outside}
        | that {animal} doesn't like {dislike} | the {vehicle} leaves at {number} {daypart}
        | {who} {went} to the {building} {past} | turn {side} at the {landmark}
        | turn {side} at the old {building} | how far is the {building} from the {landmark}
        | {who} missed the {vehicle} {past} | the {worker} {explained} the {plan}
        | you'll need {number} {supplies} for the {plan} | she's learning to {skill}
        | he can't {skill} but he can {skill} | haven't you {finished} the {plan} yet
        | {who} planted {flowers} {outside} | the {flowers} bloom in {season}
        | they {played} {outside} {past} | let's {activity} {future}
        | they're going to {activity} {future} | i feel {mood} when {condition}
        | {who} wasn't {mood} about the {plan} | we've never been to the {landmark} in {season}
        | if {condition} we'll {activity} | my {body} {hurt} {past} | the {thing} costs {number} dollars
        | {who} bought {number} {supplies} at the {building} | our {animal} sleeps {place}
        | what time does the {building} open {future} | the {worker} isn't {mood} {now}
        | {who} told a {story} story about a {animal} | the {room} smells of {dish}
        | i think the {worker} lost a {look} {thing} | nobody knew why the {animal} {ran} {path}
        | you're {mood} because {condition} | won't you {activity} with us
        | the {worker} carried {number} {supplies} {path} | {number} {animals} came {path}
        | both of them like {drink} with {meal} | she asked the {worker} for {drink}
        | that's the {look} {thing} from the {building}
        | the {landmark} is {number} miles {compass} of the {building}""",
    "who": "i | we | she | he | my {family} | his {family} | the {worker}",
    "family": "mother | father | brother | sister | friend | nephew",
    "worker": "teacher | doctor | baker | farmer | driver | carpenter | tailor",
    "thing": "key | letter | book | lamp | basket | umbrella | lantern | hammer",
    "look": "small | big | new | red | blue | purple | golden",
    "place": "on the table | under the bed | by the window | near the door | behind the chair | in the {room}",
    "room": "kitchen | garage | bedroom | hall | living room | attic",
    "cleaned": "cleaned | painted | swept | measured | locked",
    "made": "made | cooked | bought | ordered | wanted",
    "food": "bread | hot soup | rice and beans | a salad | some {dish}",
    "dish": "chicken | soup | cake | fish | honey | lemon | pumpkin",
    "drink": "a cup of tea | some coffee | warm milk | orange juice | cold water",
    "meal": "breakfast | lunch | dinner | the party | the picnic | supper",
    "taste": "too sweet | very fresh | better today | quite plain | a bit salty",
    "weather": "cold | windy | very hot | snowing",
    "fog": "fog | rain | snow | dark | smoke | thunder",
    "now": "today | this morning | again | right now",
    "past": "yesterday | last night | last week | on monday | after school | in october",
    "future": "tomorrow | tonight | next week | on sunday | after lunch",
    "season": "spring | summer | autumn | winter | april",
    "daypart": "in the morning | in the evening | every day | tonight",
    "animal": "dog | cat | horse | bird | rabbit | goose | squirrel",
    "animals": "dogs | cats | horses | birds | rabbits",
    "dislike": "loud music | cold rain | the {animal} | children",
    "ran": "ran | jumped | walked | crept | hurried",
    "path": """across the road | over the fence | into the barn | around the pond | under the bridge
        | toward the harbor""",
    "outside": """in the garden | at the park | by the lake | on the beach | near the farm
        | next to the ladder""",
    "number": "two | three | four | five | six | seven | eight | nine | ten | eleven",
    "vehicle": "bus | train | plane | boat | night train | ferry",
    "went": "drove | walked | ran | rode | took a taxi",
    "building": "library | market | station | museum | bank | castle",
    "landmark": "mountain | bridge | river | lighthouse | old mill | canyon",
    "side": "left | right",
    "compass": "north | south | east | west",
    "explained": "explained | changed | forgot | checked | liked",
    "finished": "finished | started | heard about | looked at | thought about",
    "plan": "trip | homework | meeting | concert | lesson | voyage",
    "supplies": "apples | books | pens | chairs | plates",
    "skill": "swim | paint | sing | dance | ride a horse | play the violin",
    "flowers": "roses | tulips | daisies | sunflowers | cherry trees | blossoms",
    "played": "played football | sang songs | told jokes | danced | played chess | flew kites",
    "activity": """go for a walk | watch a movie | bake a cake | visit grandfather | wash the car
        | climb the mountain""",
    "mood": "happy | tired | sad | angry | proud | jealous",
    "condition": """the sun shines | the house is quiet | it rains all day | my friends visit
        | the snow falls""",
    "body": "head | knee | left hand | back | neck | wrist",
    "hurt": "hurt | felt better | felt stiff | was sore",
    "story": "funny | long | sad | true | short",
}

_HELD_OUT = """
    attic blossoms canyon carpenter castle climb eleven ferry golden goose hammer harbor jealous kites
    ladder lantern lemon nephew october pumpkin purple salty squirrel supper tailor thunder umbrella violin
    voyage wrist
    """
HELD_OUT = frozenset(_HELD_OUT.split())
_ALTERNATIVES = {slot: [" ".join(part.split()) for part in rule.split("|")] for slot, rule in RULES.items()}
UNSEEN_SHARE = 0.2  # of the test sentences
MAX_TRIES = 20_000  # draws before a set of sentences counts as impossible


class Grammar:
    """Draws sentences, using every alternative of a slot once before any of them comes back."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._bags: dict[str, list[str]] = {}

    def _draw(self, slot: str) -> str:
        bag = self._bags.setdefault(slot, [])
        if not bag:
            bag.extend(_ALTERNATIVES[slot][i] for i in self._rng.permutation(len(_ALTERNATIVES[slot])))
        return bag.pop()

    def sentence(self) -> str:
        """Return one sentence in lower case, without punctuation other than the apostrophe."""
        text = self._draw("sentence")
        while "{" in text:
            text = re.sub(r"\{(\w+)\}", lambda match: self._draw(match[1]), text, count=1)
        return text

    def collect(self, count: int, wanted: Callable[[set[str]], bool], taken: set[str]) -> list[str]:
        """Return `count` new sentences whose sets of words are wanted, and add them to those `taken`, which do not come again.

        Raises:
            ValueError: when the grammar does not yield them within `MAX_TRIES` draws.
        """
        found: list[str] = []
        for _ in range(MAX_TRIES):
            if len(found) == count:
                return found
            text = self.sentence()
            words = [word for word in text.split() if len(word) > 3]
            repeats = len(set(words)) < len(words)  # "a cook can cook": no content word twice
            if text not in taken and not repeats and wanted(set(text.split())):
                taken.add(text)
                found.append(text)
        raise ValueError(
            f"Found only {len(found)} of {count} sentences in {MAX_TRIES:,} draws from the grammar. "
            "Ask for fewer, or for more training sentences, whose words the others are made of."
        )


def split_sentences(seed: int, num_train: int, num_valid: int, num_test: int) -> dict[str, list[str]]:
    """Return the sentences of each split; no sentence stands in two of them.

    Validation and four fifths of the test use only words of the training sentences. Every other test sentence holds
    at least one word that training never had (`UNSEEN_SHARE` of them).

    Returns:
        `{"train": [...], "validation": [...], "test": [...]}`, the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    grammar = Grammar(rng)
    taken: set[str] = set()
    train = grammar.collect(num_train, lambda words: not words & HELD_OUT, taken)
    known = {word for text in train for word in text.split()}
    validation = grammar.collect(num_valid, known.issuperset, taken)
    num_unseen = round(num_test * UNSEEN_SHARE)
    test = grammar.collect(num_test - num_unseen, known.issuperset, taken)
    unseen = grammar.collect(num_unseen, lambda words: bool(words & HELD_OUT) and len(words - known) <= 2, taken)
    test = [(test + unseen)[i] for i in rng.permutation(num_test)]  # so that every speaker has some of both
    return {"train": train, "validation": validation, "test": test}
