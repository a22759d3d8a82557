"""What this machine's processor has for int8: without dot-product instructions int8 gains little, or loses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
ARM = ("asimddp", "i8mm")
FAST = ("avx512_vnni", "avx_vnni", "amx_int8", *ARM)


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What counts for int8.

    Attributes:
        features: Those of `X86` and `ARM` that it has.
        known: Whether the system told.
    """

    features: tuple[str, ...]
    known: bool = True

    @property
    def fast(self) -> bool:
        """Whether it multiplies int8 with its own instructions."""
        return any(feature in FAST for feature in self.features)

    @property
    def advice(self) -> str:
        """What to expect of int8, in one sentence."""
        names = ", ".join(self.features) or "none of them"
        if not self.known:
            return "int8: the system does not tell what the processor has; believe the measurement only"
        if self.fast:
            return f"int8: this processor multiplies it with its own instructions ({names})"
        return (
            f"int8: this processor has no VNNI, AMX or dot-product instructions ({names}): expect a smaller model that "
            "is hardly faster or slower; weights keep 7 bits here, as 8 could overflow in AVX2's 16-bit sums"
        )


def processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The processor of this machine.

    Args:
        cpuinfo: The system's file.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Processor(features=(), known=False)
    words: set[str] = set()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            words.update(value.split())
    return Processor(features=tuple(name for name in (*X86, *ARM) if name in words), known=bool(words))
