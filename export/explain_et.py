"""What runs in an ExecuTorch program, outside XNNPACK and in it, and what it costs.

ExecuTorch's own profile (ETDump) has to be compiled in, and the published packages are built without it. So
every kind of operator is measured by repetition: in a copy of the program each of its calls is written
REPEATS times more, with the same arguments, and the time that the copy takes longer is the calls' own. A call
computes its output from its inputs and so can be repeated; what it reads has just been used, as it
has in the program itself. That does not hold for a delegate with its megabytes of weights: delegates get
what is left of the time.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from copy import copy
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from tprune.export import tensors
from tprune.export.description import Bundle
from tprune.export.engine_et import ExecuTorchEngine
from tprune.export.explain import Operator, Part, example, steps
from tprune.export.refusals import unreadable
from tprune.export.silence import silence

REPEATS = 20
ROUNDS = 9  # of the program and its copy, in turn
XNNPACK = "XnnpackBackend"


def parts(bundle: Bundle, threads: int) -> list[Part]:
    """Every method's delegates and the operators outside them; arguments and errors as for `explain`."""
    path = bundle.path / bundle.graphs[tensors.ENCODE].file
    program = _read(path)
    found = []
    with TemporaryDirectory() as folder:
        copied = bundle.model_copy(update={"path": Path(folder)})
        for name, run in METHODS.items():
            engine = ExecuTorchEngine(bundle, threads)
            times = []
            plan = _plan(program, name)
            costs = {}
            for operator in operators(plan):
                (copied.path / path.name).write_bytes(_repeated(program, name, operator))
                extra, alone = _extra_us(engine, ExecuTorchEngine(copied, threads), run)
                costs[operator] = max(0.0, extra / REPEATS)
                times.append(alone)
            if not times:
                times = [run(engine) for _ in range(ROUNDS)]
            found.append(_part(name, plan, costs, statistics.median(times)))
    return found


def operators(plan: Any) -> Counter[str]:
    """Calls of a method that run outside every delegate, by operator."""
    return Counter(_name(plan, call) for call in _calls(plan, "KernelCall"))


def delegates(plan: Any) -> Counter[str]:
    """Calls of a method that run in a delegate, by backend."""
    return Counter(plan.delegates[call.delegate_index].id for call in _calls(plan, "DelegateCall"))


def repeat(plan: Any, operator: str, times: int) -> Any:
    """A copy of a method whose calls of one operator are each made `times` more often."""
    copied = copy(plan)
    copied.chains = [copy(chain) for chain in plan.chains]
    for chain in copied.chains:
        counts = [1 + times * _is_call(plan, instruction, operator) for instruction in chain.instructions]
        begins = [0, *accumulate(counts)]
        instructions = []
        for instruction, count in zip(chain.instructions, counts, strict=True):
            written = instruction
            if _kind(instruction) == "JumpFalseCall":  # jumps to where its destination now is
                written = copy(instruction)
                written.instr_args = copy(instruction.instr_args)
                written.instr_args.destination_instruction = begins[instruction.instr_args.destination_instruction]
            instructions += [written] * count
        chain.instructions = instructions
    return copied


def _part(name: str, plan: Any, costs: dict[str, float], whole_us: float) -> Part:
    calls, inside = operators(plan), delegates(plan)
    others = Counter(_kind(instruction) for chain in plan.chains for instruction in chain.instructions)
    outside = [Operator(operator, count, "portable kernel", costs[operator]) for operator, count in calls.items()]
    outside.sort(key=lambda operator: -(operator.microseconds or 0))
    rest = max(0.0, whole_us - sum(costs.values()))
    control = {kind: count for kind, count in others.items() if kind not in ("KernelCall", "DelegateCall")}
    return Part(
        name,
        whole_us / 1000,
        (
            *(Operator(backend, count, "delegate", rest / len(inside)) for backend, count in inside.items()),
            *outside,
            *(Operator(kind, count, "control flow") for kind, count in control.items()),
        ),
        whole_us,
        (
            f"{inside[XNNPACK]} XNNPACK delegates; {calls.total()} calls of {len(calls)} operators outside them take "
            f"{sum(costs.values()) / whole_us:.1%} of the time",
            f"each operator outside is measured by repeating its calls {REPEATS} times more; the delegates' time is "
            "the rest, handing over inputs and outputs in Python included",
        ),
    )


def _read(path: Path) -> Any:
    with silence():
        from executorch.exir._serialize._program import deserialize_pte_binary
    try:
        return deserialize_pte_binary(path.read_bytes())
    except Exception as error:  # the parser raises anything
        raise unreadable(path, error) from None


def _repeated(program: Any, method: str, operator: str) -> bytes:
    """The file of the program with one method's calls of one operator repeated."""
    from executorch.exir._serialize._program import serialize_pte_binary

    changed = copy(program)
    changed.program = copy(program.program)
    changed.program.execution_plan = [
        repeat(plan, operator, REPEATS) if plan.name == method else plan for plan in program.program.execution_plan
    ]
    return bytes(serialize_pte_binary(changed, extract_delegate_segments=True))


def _extra_us(
    engine: ExecuTorchEngine, repeated: ExecuTorchEngine, run: Callable[[ExecuTorchEngine], float]
) -> tuple[float, float]:
    """Microseconds that a run takes longer in the copy, and those it takes in the program."""
    for warm in (engine, repeated):
        run(warm)
    pairs = [(run(engine), run(repeated)) for _ in range(ROUNDS)]
    return (
        statistics.median(longer - alone for alone, longer in pairs),
        statistics.median(alone for alone, _ in pairs),
    )


def _encode_us(engine: ExecuTorchEngine) -> float:
    source = example(engine.bundle)
    start = perf_counter()
    engine.encode(source, np.ones_like(source))
    return (perf_counter() - start) * 1e6


def _step_us(engine: ExecuTorchEngine) -> float:
    """Mean of the steps of one sentence."""
    source, tokens = example(engine.bundle), np.array([int(engine.bundle.search["start"])])
    state, count = engine.encode(source, np.ones_like(source)), steps(engine.bundle)
    start = perf_counter()
    for _ in range(count):
        _, state = engine.step(tokens, state)
    return (perf_counter() - start) * 1e6 / count


def _plan(program: Any, name: str) -> Any:
    return next(plan for plan in program.program.execution_plan if plan.name == name)


def _calls(plan: Any, kind: str) -> Iterable[Any]:
    instructions = (instruction for chain in plan.chains for instruction in chain.instructions)
    return (instruction.instr_args for instruction in instructions if _kind(instruction) == kind)


def _is_call(plan: Any, instruction: Any, operator: str) -> bool:
    return _kind(instruction) == "KernelCall" and _name(plan, instruction.instr_args) == operator


def _kind(instruction: Any) -> str:
    return type(instruction.instr_args).__name__


def _name(plan: Any, call: Any) -> str:
    said = plan.operators[call.op_index]
    return f"{said.name}.{said.overload}" if said.overload else str(said.name)


METHODS: dict[str, Callable[[ExecuTorchEngine], float]] = {
    tensors.ENCODE: _encode_us,
    tensors.DECODE_STEP: _step_us,
}
