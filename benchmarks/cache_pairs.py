"""Pairs of questions for the semantic cache: ways to say the same, and questions that only look the same.

    python -m benchmarks.cache_meaning      prints how often each kind is taken for the same

Paraphrases should be found; everything else must not be. The false ones are made from the same sentences by changing
the one detail that changes the answer.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple


class Pair(NamedTuple):
    """Two questions, and what kind of pair they are; `SAME` alone may share an answer."""

    kind: str
    one: str
    other: str


SAME: Final = "paraphrase"
# Each row: one question in several wordings.
PARAPHRASES: Final = (
    ("What is the capital of France?", "What's the capital of France?", "Tell me the capital of France.",
     "what is the capital city of France?", "Please tell me what the capital of France is."),
    ("How do I reset my password?", "How can I reset my password?", "how do i reset my password",
     "What do I have to do to reset my password?", "Can you explain how to reset my password?"),
    ("Explain how photosynthesis works.", "How does photosynthesis work?", "Please explain how photosynthesis works",
     "Can you explain how photosynthesis works?", "Describe the way photosynthesis works."),
    ("Who wrote Romeo and Juliet?", "Who is the author of Romeo and Juliet?", "who was Romeo and Juliet written by?",
     "Tell me who wrote Romeo and Juliet."),
    ("How do I sort a list in Python?", "How can I sort a list in Python?", "What is the way to sort a list in Python?",
     "Show me how to sort a list in Python.", "Python: how do I sort a list?"),
    ("What are the symptoms of the flu?", "Which symptoms does the flu have?", "what are symptoms of flu",
     "Tell me the symptoms of the flu.", "List the symptoms of the flu please."),
    ("How far is the Moon?", "What is the distance to the Moon?", "How far away is the Moon?",
     "Tell me how far away the Moon is."),
    ("How many days are there in a leap year?", "How many days does a leap year have?",
     "A leap year has how many days?", "Tell me how many days a leap year has."),
    ("How do I cook rice?", "How should I cook rice?", "What is the best way to cook rice?",
     "Tell me how to cook rice.", "Please explain how rice is cooked."),
    ("What does HTTP status 404 mean?", "What is the meaning of HTTP status 404?", "Explain HTTP status 404.",
     "Tell me what HTTP status 404 means."),
    ("How do I undo the last commit in git?", "How can I undo the last commit in git?",
     "What is the way to undo the last commit in git?", "Tell me how to undo the last git commit."),
    ("Wie hoch ist der Eiffelturm?", "Was ist die Höhe vom Eiffelturm?", "Sag mir, wie hoch der Eiffelturm ist."),
)  # fmt: skip
# Each row: the kind of the change, a sentence with a gap, and what may stand in it.
CHANGES: Final = (
    ("number", "What is {} percent of 250?", ("15", "16", "51", "1.5")),
    ("number", "How do I convert {} miles to kilometers?", ("5", "50", "6")),
    ("number", "What happened in {}?", ("1914", "1941", "1918")),
    ("number", "Write a poem with {} lines about the sea.", ("four", "five", "fourteen")),
    ("number", "What does HTTP status {} mean?", ("401", "403", "404")),
    ("name", "What is the population of {}?", ("Paris", "London", "Berlin")),
    ("name", "Who was the wife of {}?", ("Henry", "Charles", "Edward")),
    ("name", "When was {} founded?", ("Google", "Apple", "Microsoft")),
    ("small name", "what is the capital of {}?", ("austria", "australia", "hungary")),
    ("small name", "how tall is {}?", ("messi", "ronaldo", "neymar")),
    ("order", "{}", ("Convert Celsius to Fahrenheit.", "Convert Fahrenheit to Celsius.")),
    ("order", "{}", ("How much does Alice owe Bob?", "How much does Bob owe Alice?")),
    ("order", "{}", ("Is a cat faster than a dog?", "Is a dog faster than a cat?")),
    ("negation", "{}", ("Which foods contain gluten?", "Which foods do not contain gluten?")),
    ("negation", "{}", ("Which drugs can I take with ibuprofen?", "Which drugs can't I take with ibuprofen?")),
    ("negation", "{}", ("Write a function with recursion.", "Write a function without recursion.")),
    ("negation", "{}", ("Warum ist der Himmel blau?", "Warum ist der Himmel nicht blau?")),
    ("opposite", "What are the {} of nuclear power?", ("advantages", "disadvantages", "benefits", "drawbacks")),
    ("opposite", "How do I {} an account?", ("create", "delete", "open", "close")),
    ("opposite", "What is the {} planet?", ("largest", "smallest", "hottest", "coldest")),
    ("opposite", "Should I eat {} exercise?", ("before", "after")),
    ("opposite", "How do I {} logging?", ("enable", "disable")),
    ("opposite", "How do I {} my weight?", ("increase", "decrease", "reduce", "gain")),
    ("language", "Translate 'good morning' into {}.", ("French", "German", "Spanish")),
    ("language", "How do I reverse a string in {}?", ("Python", "Java", "Rust", "Go")),
    ("language", "how do i reverse a string in {}?", ("python", "java", "rust", "elixir")),
    ("language", "{}", ("What is the capital of France?", "Was ist die Hauptstadt von Frankreich?",
                        "Quelle est la capitale de la France?")),
    ("code", "What does `{}` do?", ("x += 1", "x -= 1", "x *= 1")),
    ("code", "Why does {} fail?", ("foo(a, b)", "foo(b, a)", "bar(a, b)")),
    ("code", "What is the time complexity of {} search?", ("binary", "linear", "breadth-first")),
    ("quote", 'What does the word "{}" mean?', ("affect", "effect", "infect")),
    ("subject", "How do I cook {}?", ("rice", "pasta", "lentils", "quinoa")),
    ("subject", "What are the symptoms of {}?", ("diabetes", "measles", "mumps", "anaemia")),
    ("subject", "Explain how {} works.", ("photosynthesis", "respiration", "fermentation")),
    ("subject", "How do I get a stain of {} out of a shirt?", ("wine", "ink", "blood", "grass")),
    ("subject", "Is {} safe during pregnancy?", ("paracetamol", "ibuprofen", "aspirin")),
    ("question", "{} was the treaty signed?", ("When", "Where", "Why")),
    ("question", "{} did the empire fall?", ("When", "Why", "How")),
)  # fmt: skip
# Another subject in another wording, where no single word was swapped: wordings, and subjects close to each other.
REWORDED: Final = (
    (("How do I cook {}?", "What is the best way to cook {}?", "Tell me how to cook {}.", "how is {} cooked"),
     ("rice", "pasta", "lentils", "quinoa")),
    (("Is {} safe during pregnancy?", "Can {} be taken while pregnant?", "Tell me if {} is safe in pregnancy.",
      "is it safe to take {} when pregnant"), ("paracetamol", "ibuprofen", "aspirin", "naproxen")),
    (("What are the symptoms of {}?", "Which symptoms does {} have?", "Tell me the symptoms of {}.",
      "how do i recognise {}"), ("measles", "mumps", "rubella", "chickenpox")),
    (("what is the capital of {}?", "tell me the capital city of {}", "which city is the capital of {}?",
      "name the capital of {} please"), ("austria", "australia", "hungary", "slovakia")),
    (("Explain how {} works.", "How does {} work?", "Can you describe how {} works?", "the way {} works, please"),
     ("photosynthesis", "respiration", "fermentation", "osmosis")),
    (("How do I {} the last commit in git?", "What is the git command to {} the last commit?",
      "Tell me how to {} my last git commit.", "git: {} last commit, how"), ("undo", "amend", "revert", "sign")),
    (("What is the half-life of {}?", "How long is the half-life of {}?", "Tell me the half-life of {}.",
      "{} half-life"), ("caffeine", "nicotine", "codeine", "morphine")),
    (("What is a good substitute for {}?", "What can I use instead of {}?", "Which ingredient can replace {}?",
      "i have run out of {}, what do i take"), ("butter", "margarine", "cream", "milk")),
)  # fmt: skip


def pairs() -> Iterator[Pair]:
    """Every pair, each once."""
    for row in PARAPHRASES:
        yield from _combined(SAME, row)
    for kind, sentence, fillings in CHANGES:
        yield from _combined(kind, tuple(sentence.format(filling) for filling in fillings))
    for wordings, subjects in REWORDED:
        yield from _crossed(wordings, subjects)


def _combined(kind: str, questions: tuple[str, ...]) -> Iterator[Pair]:
    for place, one in enumerate(questions):
        for other in questions[place + 1 :]:
            yield Pair(kind, one, other)


def _crossed(wordings: tuple[str, ...], subjects: tuple[str, ...]) -> Iterator[Pair]:
    """The same subject in two wordings, and two subjects in two wordings."""
    for place, one in enumerate(wordings):
        for other in wordings[place + 1 :]:
            for mine in subjects:
                for theirs in subjects:
                    yield Pair(SAME if mine == theirs else "reworded", one.format(mine), other.format(theirs))
