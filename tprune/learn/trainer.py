"""The one training loop: dense training, SHS training and recovery are settings of it.

It is Hugging Face's Seq2SeqTrainer (CUDA, bf16, DDP by `accelerate launch`, resume, TensorBoard)
with token batches, distillation, and penalties that act outside Adam's moments.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback, get_scheduler

from tprune.config import Learn
from tprune.learn import checkpoints, soft
from tprune.learn.batches import Pairs, Parallel, TokenBatches, collate
from tprune.learn.evaluate import token_loss
from tprune.learn.losses import Teaching, cross_entropy
from tprune.learn.machine import attention_kernel, half, kept_memory
from tprune.model.checkpoint import quiet
from tprune.model.layers import Attention, FeedForward
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.progress import narrate

Shrink = Callable[[float], None]
"""A decoupled penalty: changes the model's weights in place, given the learning rate."""
Watch = Callable[[], Mapping[str, float]]
"""What else to record of the model at every evaluation, by name."""

SCHEDULES = {"inverse_sqrt": "inverse_sqrt", "linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def fit(
    model: TPruneForConditionalGeneration,
    train: Parallel,
    valid: Parallel,
    settings: Learn,
    scratch: Path,
    *,
    teacher: TPruneForConditionalGeneration | None = None,
    shrink: Shrink | None = None,
    ramp: float = 0.0,
    watch: Watch | None = None,
    skip: int = 0,
    best: bool = False,
    soft_targets: int = 0,
    logs: Path | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train `model` in place; continue from `scratch` when a killed run left checkpoints there.

    Args:
        model: Changed in place to the (averaged) result, left in eval mode.
        train: Training pairs.
        valid: Validation pairs, for the loss at every checkpoint.
        settings: Steps, learning rate, batch, and so on.
        scratch: Where checkpoints go.
        teacher: Gives the word-level distillation targets when `settings.distill` > 0.
        shrink: Called with the learning rate after every optimizer step.
        ramp: Share of the steps in which what `shrink` is called with grows from 0 to the learning rate.
        watch: Gives what else is recorded of the model at every evaluation.
        skip: The learning rates are the last ones of a run of `skip` more steps.
        best: Keep the checkpoint with the least validation loss instead of the last one.
        soft_targets: Ask the teacher once, and keep this many of its likeliest tokens behind every prefix; 0: ask it in
            every step.
        logs: TensorBoard's folder; None: no logs.
        progress: Show the progress bar.

    Returns:
        The history: `step`, and `loss` or `eval_loss` (nats a token), the latter with what `watch` gave.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    own_dropout = model.config.dropout
    _set_dropout(model, own_dropout if settings.dropout is None else settings.dropout)
    arguments = _arguments(settings, scratch, logs, progress, best)
    trainer = Trainer(
        model, train, valid, settings, arguments, teacher, Penalize(shrink, ramp) if shrink else None, skip
    )
    trainer.watch = watch
    found = checkpoints.whole(scratch)
    if trainer.is_world_process_zero():
        checkpoints.remove_all_but(found, scratch)
    # a bar for every checkpoint's shards would cut the training's own bar to pieces
    with quiet(), attention_kernel(), kept_memory():
        if soft_targets:
            trainer.ask_once(scratch, soft_targets)
        trainer.train(resume_from_checkpoint=str(found[-1]) if found else None)
    trainer.accelerator.wait_for_everyone()  # the first process may still be writing the last checkpoint
    if settings.average > 1:
        model.load_state_dict(checkpoints.average(scratch, settings.average))
    _set_dropout(model, own_dropout)
    model.eval()
    kept = sorted({"step", "loss", "eval_loss", "learning_rate", *(watch() if watch else ())})
    return [
        {key: entry[key] for key in kept if key in entry}  # what a checkpoint brings back is in another order
        for entry in trainer.state.log_history
        if "loss" in entry or "eval_loss" in entry
    ]


class Trainer(Seq2SeqTrainer):
    """Seq2SeqTrainer with token batches, smoothed and distilled loss, decoupled penalty."""

    watch: Watch | None = None

    def __init__(
        self,
        model: TPruneForConditionalGeneration,
        train: Parallel,
        valid: Parallel,
        settings: Learn,
        arguments: Seq2SeqTrainingArguments,
        teacher: TPruneForConditionalGeneration | None,
        penalize: "Penalize | None",
        skip: int,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=Pairs(train),
            eval_dataset=Pairs(valid),
            data_collator=partial(
                collate, pad_id=model.config.pad_token_id, start_id=model.config.decoder_start_token_id
            ),
            callbacks=[checkpoints.Marks(), *([penalize] if penalize else [])],
        )
        self.settings, self.pairs, self.valid, self.skip = settings, train, valid, skip
        self.teacher = teacher.to(self.args.device).eval() if teacher is not None and settings.distill else None

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Token batches for the whole run, sharded over the processes by accelerate."""
        world = self.accelerator.num_processes
        count = self.settings.steps * self.settings.accumulate * world
        batches = TokenBatches(self.pairs.lengths, self.settings.batch_tokens, count, self.settings.seed)
        return self.accelerator.prepare(  # type: ignore[no-any-return]
            DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
        )

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The end of the schedule of a run that is `skip` steps longer."""
        whole = get_scheduler(
            self.args.lr_scheduler_type,
            torch.optim.SGD([torch.zeros(1)]),  # only its factors are wanted
            num_warmup_steps=self.settings.warmup,
            num_training_steps=self.skip + num_training_steps,
        )
        factor = whole.lr_lambdas[0]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer if optimizer is None else optimizer, lambda step: factor(self.skip + step)
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Label-smoothed cross entropy, mixed with that to the teacher's distribution, per target token."""
        known = dict(inputs)
        labels, looked_up = known.pop("labels"), [known.pop(name, None) for name in soft.COLUMNS]
        outputs = model(**known, use_cache=False)
        says = self._teacher_says(known, looked_up, outputs.logits.shape[-1])
        teaching = says and Teaching(says, self.settings.distill, self.settings.temperature)
        loss = cross_entropy(outputs.logits, labels, self.settings.label_smoothing, teaching)
        if num_items_in_batch is None:
            loss = loss / (labels != -100).sum()
        else:
            # DDP averages gradients over the processes, the token count is that of all of them
            loss = loss / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _teacher_says(
        self, known: dict[str, Tensor], looked_up: Sequence[Tensor | None], size: int
    ) -> Callable[[slice], Tensor] | None:
        """The teacher's probabilities of some tokens, looked up or computed; None without a teacher."""
        ids, probabilities = (None if each is None else each.flatten(0, 1) for each in looked_up)
        if ids is not None and probabilities is not None:
            return lambda rows: soft.dense(ids[rows], probabilities[rows], size)
        if self.teacher is None:
            return None
        with torch.no_grad(), self.accelerator.autocast():
            logits = self.teacher(**known, use_cache=False).logits.flatten(0, 1)
        return lambda rows: torch.softmax(logits[rows].float() / self.settings.temperature, dim=-1)

    def ask_once(self, scratch: Path, count: int) -> None:
        """Let the teacher, if there is one, say all that it will be asked, and do without it from then on."""
        if self.teacher is None:
            return
        if self.is_world_process_zero():
            with narrate("soft targets") as progress:
                soft.prepare(
                    scratch,
                    self.teacher,
                    self.pairs,
                    count,
                    self.settings.temperature,
                    self.settings.batch_tokens,
                    progress,
                    self.accelerator.autocast,
                )
        self.teacher.cpu()  # whoever gave it may hold on to it
        self.teacher = None
        self.train_dataset = soft.SoftPairs(self.pairs, soft.read(scratch, self.pairs))
        config = self.model.config
        self.data_collator = partial(
            soft.collate_soft, pad_id=config.pad_token_id, start_id=config.decoder_start_token_id
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Cross entropy on the validation pairs, in nats a token, and what is watched."""
        metrics = {"eval_loss": token_loss(self.accelerator.unwrap_model(self.model), self.valid)}
        metrics |= self.watch() if self.watch else {}
        self.log(metrics)
        # tells the control that this evaluation is done, else the last one is made twice
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)  # type: ignore[has-type]
        self.model.train()
        return metrics


class Penalize(TrainerCallback):
    """Applies a decoupled penalty after every optimizer step, as AdamW does with weight decay."""

    def __init__(self, shrink: Shrink, ramp: float) -> None:
        self.shrink, self.ramp = shrink, ramp

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, *, optimizer: torch.optim.Optimizer, **_: Any
    ) -> None:
        """Shrink with the step's learning rate, or the part of it that the ramp has come to."""
        climb = self.ramp * state.max_steps
        self.shrink(optimizer.param_groups[0]["lr"] * (min(1.0, state.global_step / climb) if climb else 1.0))


def _arguments(
    settings: Learn, scratch: Path, logs: Path | None, progress: bool, best: bool
) -> Seq2SeqTrainingArguments:
    if logs is not None:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs)
    # a short run, too, has as many checkpoints as are averaged
    every = max(1, min(settings.checkpoint_every, settings.steps // settings.average))
    # a loss is the mean since the last one logged, or since the start of the process: so every checkpoint logs one
    logging = next(steps for steps in range(min(50, every), 0, -1) if every % steps == 0)
    return Seq2SeqTrainingArguments(
        output_dir=str(scratch),
        max_steps=settings.steps,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=settings.clip,
        bf16=half(settings.precision),
        seed=settings.seed,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=max(2, settings.average),
        load_best_model_at_end=best,
        metric_for_best_model="eval_loss" if best else None,
        greater_is_better=False if best else None,
        eval_strategy="steps",
        eval_steps=every,
        logging_steps=logging,
        report_to=["tensorboard"] if logs is not None else "none",
        disable_tqdm=not progress,
        # without it, processes on CPUs would each train on everything by themselves
        use_cpu=not torch.accelerator.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        accelerator_config={"even_batches": False},
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _set_dropout(model: TPruneForConditionalGeneration, rate: float) -> None:
    model.config.dropout = rate
    for module in model.modules():
        if isinstance(module, Attention | FeedForward):
            module.dropout = rate
