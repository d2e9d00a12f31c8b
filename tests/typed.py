"""Options as they are typed."""

from typing import Any

from protos.flags import flags_of


def flags(options: Any) -> list[str]:
    """The command line of a dataclass of options; what is empty is left out."""
    values = {field.name: getattr(options, field.name) for field in flags_of(type(options))}
    return [word for name, value in values.items() if value not in ("", (), None)
            for word in (f"--{name}", *map(str, value if isinstance(value, tuple) else [value]))]  # fmt: skip
