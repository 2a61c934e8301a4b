"""Text of a language model, written to the terminal while it is drawn."""

from collections.abc import Sequence

from toolkit.commands.options import OptionParser
from toolkit.errors import UserError
from toolkit.language.text_generator import Sampling, TextGenerator

USAGE = (
    'python cli.py sample RUN_FOLDER_OR_CHECKPOINT [--prompt "..."] [--tokens 200] [--count 1] [--temperature 1.0] '
    "[--top_k 40] [--top_p 0.95] [--seed 0] [--accelerator auto]"
)


def sample_text(task: TextGenerator, words: Sequence[str]) -> list[str]:
    """Continue a prompt, piece by piece; each text ends with its document or after so many tokens.

    Args:
        task: The model.
        words: The options.

    Returns:
        The texts, the prompt included.

    Raises:
        UserError: A mistake in the options; a prompt that the vocabulary cannot spell.
    """
    parser = OptionParser("sample", USAGE)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--top_p", type=float)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    for name in ("tokens", "count"):
        if getattr(options, name) < 1:
            raise UserError(f"sample: {name}: need at least 1, got {getattr(options, name)}.")
    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    texts = []
    for number in range(options.count):
        pieces = [options.prompt]
        print(options.prompt, end="", flush=True)
        for piece in task.stream(options.prompt, options.tokens, number, options.seed, sampling):
            print(piece, end="", flush=True)
            pieces.append(piece)
        print(flush=True)
        texts.append("".join(pieces))
    return texts
