"""What runs in an ExecuTorch program, outside XNNPACK and in it, and what it costs.

ExecuTorch's own profile (ETDump) has to be compiled in, and the published packages are built without it. So
every kind of operator is measured by repetition: in a copy of the program each of its calls is written
REPEATS times more, with the same arguments, and the time that the copy takes longer is the calls' own. A call
computes its output from its inputs, or writes the same into a cache again, and so can be repeated; what it reads
has just been used, as it has in the program itself. That does not hold for a delegate with its megabytes of
weights: delegates get what is left of the time.
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
from tprune.model.engine import Engine

REPEATS = 20
ROUNDS = 9  # of the program and its copy, in turn
XNNPACK = "XnnpackBackend"
CALLS = ("KernelCall", "DelegateCall")


def parts(bundle: Bundle, threads: int) -> list[Part]:
    """Every method's delegates and the operators outside them; arguments and errors as for `explain`."""
    path = bundle.path / bundle.graphs[tensors.ENCODE].file
    program = _read(path)
    plans = {plan.name: plan for plan in program.program.execution_plan}
    with TemporaryDirectory() as folder:
        copied = bundle.model_copy(update={"path": Path(folder)})
        return [
            _part(plans[name], *_costs_us(program, plans[name], path.name, bundle, copied, threads))
            for name in bundle.graphs
        ]


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


def _costs_us(
    program: Any, plan: Any, file: str, bundle: Bundle, copied: Bundle, threads: int
) -> tuple[dict[str, float], float | None]:
    """Microseconds of each operator outside the delegates in one run of a method, and of the whole run."""
    if plan.name not in METHODS:
        return {}, None
    run, engine, costs = METHODS[plan.name], ExecuTorchEngine(bundle, threads), {}
    alone = [run(engine) for _ in range(ROUNDS)][1:]
    for operator in operators(plan):
        (copied.path / file).unlink(missing_ok=True)  # not written over: the engine before this one has it mapped
        (copied.path / file).write_bytes(_repeated(program, plan.name, operator))
        repeated = ExecuTorchEngine(copied, threads)
        run(repeated)
        pairs = [(run(engine), run(repeated)) for _ in range(ROUNDS)]
        costs[operator] = max(0.0, statistics.median(longer - usual for usual, longer in pairs) / REPEATS)
        alone += [usual for usual, _ in pairs]
    return costs, statistics.median(alone)


def _part(plan: Any, costs: dict[str, float], whole_us: float | None) -> Part:
    calls, inside = operators(plan), delegates(plan)
    outside = [Operator(name, count, "portable kernel", costs.get(name)) for name, count in calls.items()]
    outside.sort(key=lambda operator: -(operator.microseconds or 0))
    rest = None if whole_us is None else max(0.0, whole_us - sum(costs.values()))
    backends = [Operator(name, count, "delegate", rest if len(inside) == 1 else None) for name, count in inside.items()]
    others = Counter(_kind(instruction) for chain in plan.chains for instruction in chain.instructions)
    control = [Operator(name, count, "control flow") for name, count in others.items() if name not in CALLS]
    notes = [f"{inside[XNNPACK]} XNNPACK delegates, {calls.total()} calls of {len(calls)} operators outside them"]
    if whole_us is not None:
        notes += [
            f"the operators outside take {sum(costs.values()) / whole_us:.1%} of the time",
            f"each of them is measured by making its calls {REPEATS} times more; the delegates' time is the rest, "
            "handing over inputs and outputs in Python included",
        ]
    milliseconds = None if whole_us is None else whole_us / 1000
    return Part(plan.name, milliseconds, (*backends, *outside, *control), whole_us or 0.0, tuple(notes))


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


def _encode_us(engine: ExecuTorchEngine) -> float:
    source = example(engine.bundle)
    start = perf_counter()
    engine.encode(source, np.ones_like(source))
    return (perf_counter() - start) * 1e6


def _step_us(engine: Engine, bundle: Bundle) -> float:
    """Mean of the steps of one sentence."""
    source, tokens = example(bundle), np.array([int(bundle.search["start"])])
    state, count = engine.encode(source, np.ones_like(source)), steps(bundle)
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
    tensors.DECODE_STEP: lambda engine: _step_us(engine, engine.bundle),
    tensors.BUFFERED_STEP: lambda engine: _step_us(engine.buffered, engine.bundle),
}
