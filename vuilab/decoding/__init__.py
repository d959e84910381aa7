"""From probabilities to text: greedy, n-grams, beam search, alignment and subtitles."""
