"""Several processes that train one network: each takes its share of every batch, process 0 does all the rest.

``torchrun --nproc-per-node N -m CLMorphCore train …`` starts them, on one machine or more, and tells each its number in
its environment. Process 0 reads, plans, draws up and speaks; the others wait, take part in each training (``follow`` of
the loop), and end when it has ended. What one of them computes of a batch is what a single process would have computed:
every random choice is a function of the seed, the step and a pair's place in the whole batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from ..bundles import checkpoint
from ..devices import choose_device, is_out_of_memory
from ..errors import Cancelled, CLMorphError, DeviceError, InputError, OthersEnded, SettingError
from ..io.files import short
from ..progress import EXIT_CANCELLED

GIVEN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by torchrun, beside LOCAL_RANK
NO_TIMEOUT = timedelta(days=30)  # of those who wait while process 0 looks at scans, or makes an atlas
SPOKEN, SPEAKING_S = "clmorph-spoken", 10.0


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees them; a single one where ``count`` is 1.

    rank      the number of this process
    device    that it computes on
    gradients the group that averages on the device; None is gloo's, which waits for as long as it takes
    local     the number of this process on its machine
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    gradients: Any = None
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def check_batch(self, size: int) -> None:
        """SettingError for a batch that cannot be shared alike."""
        if size % self.count:
            raise SettingError(
                f"training.batch_size is {size}, which {self.count} processes cannot share alike; expected a multiple "
                f"of {self.count}",
                "change it, or start another number of processes",
            )

    def check_network(self, network: nn.Module) -> None:
        """SettingError for a network that looks at the whole batch."""
        if self.count > 1 and any(isinstance(module, nn.BatchNorm3d) for module in network.modules()):
            raise SettingError(
                f'network.norm is "batch", of which {self.count} processes have a part each; expected a norm of single '
                "images",
                'set network.norm = "instance", or start one process',
            )

    def share(self, size: int) -> range:
        """The places in a batch of that size that are this process'."""
        own = size // self.count
        return range(self.rank * own, (self.rank + 1) * own)

    def shared(self, value: Any) -> Any:
        """Process 0's value, of any kind."""
        if self.count == 1:
            return value
        box = [value if self.leads else None]
        with _together(self.count):
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def everyones(self, value: Any) -> list[Any]:
        """The values of all processes, of any kind, in their order."""
        values = [value] * self.count
        if self.count > 1:
            with _together(self.count):
                dist.all_gather_object(values, value)
        return values

    def send(self, tensor: Tensor) -> Tensor:
        """Process 0's values for a tensor on the CPU, the same one."""
        if self.count > 1:
            with _together(self.count):
                dist.broadcast(tensor, src=0)
        return tensor

    def told(self, number: float) -> float:
        """Process 0's number."""
        if self.count == 1:
            return number
        told = torch.tensor([number], dtype=torch.float64)
        with _together(self.count):
            dist.broadcast(told, src=0)
        return told.item()

    def made_alike(self, parts: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Gives all the parameters and the optimizer's state of process 0."""
        if self.count == 1:
            return
        own = [dict(parts.state_dict()), checkpoint.optimizer_tensors(optimizer)] if self.leads else []
        weights, moments = self.shared([_on_cpu(tensors) for tensors in own])
        if not self.leads:
            parts.load_state_dict(weights)
            checkpoint.restore_optimizer(optimizer, moments)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, on the CPU."""
        values = values.detach().float().cpu()
        if self.count == 1:
            return values
        with _together(self.count):
            dist.all_reduce(values)
        return values / self.count

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """g ← mean over the processes of g, of every parameter that has a gradient."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _together(self.count):
            dist.all_reduce(flat, group=self.gradients)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows (B, …) of every process, in the order of the whole batch: (count · B, …).

        A loss of all rows is then the same in each process, and has in each the gradient of its own rows alone, which
        is taken ``count`` times here: the mean over the processes is the gradient of the loss.
        """
        if self.count == 1:
            return rows
        rows = rows.float()
        everyones = [torch.empty_like(rows) for _ in range(self.count)]
        with _together(self.count):
            dist.all_gather(everyones, rows.detach().contiguous(), group=self.gradients)
        everyones[self.rank] = rows + (self.count - 1) * (rows - rows.detach())
        return torch.cat(everyones)


ALONE = Team()


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


@contextmanager
def _together(count: int) -> Iterator[None]:
    """OthersEnded where what all do together fails in the block: a process of them is gone."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise OthersEnded(
            f"another of the {count} processes of this training has ended ({short(error, 120)})",
            "see what it said; the training goes on from its last checkpoint when it is called again",
        ) from None


@contextmanager
def joined(device: str) -> Iterator[Team]:
    """The team that the environment tells of, on a device by its name; LOCAL_RANK chooses among several GPUs.

    Where a process fails the others end too, and only the first of all lets its error out; SystemExit in the others.
    """
    number, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if count == 1:
        yield Team(device=choose_device(device))
        return
    if gone := [name for name in GIVEN if name not in os.environ]:
        raise InputError(
            f"WORLD_SIZE is {count} and {', '.join(gone)} not set; expected all of {', '.join(GIVEN)}",
            "start the processes with torchrun, or unset WORLD_SIZE",
        )
    store, _, _ = next(iter(rendezvous("env://", number, count, timeout=NO_TIMEOUT)))
    group = None
    try:
        dist.init_process_group("gloo", store=store, rank=number, world_size=count, timeout=NO_TIMEOUT)
        local = _number("LOCAL_RANK", number)
        own = _device_of(device, local, count)
        if own.type == "cuda":
            torch.cuda.set_device(own)
        group = dist.new_group(backend="nccl") if own.type == "cuda" else None
        yield Team(number, count, own, group, local)
        dist.barrier()  # or the first to leave takes the connections of the others with it
    except BaseException as error:
        first = _is_first(store)
        if group is None and dist.is_initialized():  # left to the interpreter's end, gloo's threads abort the process;
            dist.destroy_process_group()  # NCCL's are left: to close them waits for what the others will never send
        if number == 0:
            _wait_for_questions(store, count)
        if not first:
            raise SystemExit(_exit_code(error)) from None
        raise
    dist.destroy_process_group()


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdecimal():
        raise InputError(f"{name} in the environment is {short(text)}; expected a number", "unset it")
    return int(text)


def _device_of(name: str, local: int, count: int) -> torch.device:
    """cuda:LOCAL_RANK for a GPU; DeviceError where that is not there, or one is named for all."""
    device = choose_device(name)
    if device.type not in ("cpu", "cuda") or device.index is not None:
        raise DeviceError(
            f"`device={name}` is one device for {count} processes; expected cpu, or cuda, of which each process takes "
            "its own",
            "omit `device`",
        )
    return choose_device(f"cuda:{local}") if device.type == "cuda" else device


def _is_first(store: Any) -> bool:
    """Whether no other process has spoken of its end; also where that cannot be told."""
    try:
        store.set_timeout(timedelta(seconds=SPEAKING_S))
        return store.add(SPOKEN, 1) == 1
    except RuntimeError:
        return True


def _wait_for_questions(store: Any, count: int) -> None:
    """Keeps the store, which process 0 may be the one to have, until all have asked who spoke first, or a while."""
    ends = time.monotonic() + SPEAKING_S
    try:
        while store.add(SPOKEN, 0) < count and time.monotonic() < ends:
            time.sleep(0.05)
    except RuntimeError:
        return  # the store is another process', and gone


def _exit_code(error: BaseException) -> int:
    if isinstance(error, Cancelled | KeyboardInterrupt):
        return EXIT_CANCELLED
    return 2 if isinstance(error, CLMorphError) else 1
