"""Small folders of parallel text."""

from pathlib import Path

from tprune.config import Text

TRAIN = [(f"The dog sees {n} cats.", f"Der Hund sieht {n} Katzen.") for n in range(2, 62)]
VALID = [(f"A man buys {n} hats.", f"Ein Mann kauft {n} Hüte.") for n in range(2, 12)]
TEST = [(f"We need {n} chairs.", f"Wir brauchen {n} Stühle.") for n in range(2, 9)]


def write(folder: Path, name: str, pairs: list[tuple[str, str]]) -> None:
    """`NAME.en` and `NAME.de`."""
    folder.mkdir(exist_ok=True)
    for side, language in enumerate(("en", "de")):
        (folder / f"{name}.{language}").write_bytes("".join(f"{pair[side]}\n" for pair in pairs).encode())


def text(folder: Path, **changes: object) -> Text:
    """Settings for a folder of three such splits, which is written if it is not there."""
    if not folder.exists():
        for name, pairs in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
            write(folder, name, pairs)
    return Text.model_validate({"folder": str(folder), "vocabulary": 330, **changes})
