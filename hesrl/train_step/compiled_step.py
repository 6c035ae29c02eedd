"""A library of loops, called for a step."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves

from hesrl.train_step.c_code import CProgram
from hesrl.train_step.loops import Call
from hesrl.train_step.translation import Translation

_LINE = 64
"""Bytes of the processor's memory that are fetched together."""


class CompiledStep:
    """From the inputs of a record, which it changes as the function would, to the results.

    Args:
        library: Of the program's code.
        translation: What the program was made from.
        in_c: The program.
        inputs: As it is called.
        fixed: Slots of inputs that stay where they are in memory. The others are looked up at each
            call, as users may put other memory behind a parameter.
    """

    def __init__(
        self,
        library: Path,
        translation: Translation,
        in_c: CProgram,
        inputs: Sequence[Tensor],
        fixed: Collection[int] = (),
    ) -> None:
        self._function = ctypes.CDLL(str(library)).hesrl_step
        self._function.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
        memory = torch.empty(in_c.size + _LINE, dtype=torch.uint8)
        self._memory = memory[-memory.data_ptr() % _LINE :]
        self._start = self._memory.data_ptr()
        self._like = [torch.empty(shape, dtype=b.dtype) for b, shape in translation.new.items()]
        count = len(inputs) + len(self._like)
        self._pointers = array("Q", [*map(Tensor.data_ptr, inputs), *[0] * len(self._like)])
        self._address, _ = self._pointers.buffer_info()
        self._moving = [slot for slot in range(count) if slot not in fixed]
        self._translation, self._places = translation, in_c.places
        self._calls = [self._call(call) for call in in_c.calls]
        self._results = [self._result(result) for result in translation.results]

    def __call__(self, tensors: list[Tensor]) -> Sequence[Tensor]:
        """Take a step.

        Raises:
            IndexError: An index is beyond its tensor.
        """
        passed = tensors + list(map(torch.empty_like, self._like))
        pointers, address = self._pointers, self._address
        for slot in self._moving:
            pointers[slot] = passed[slot].data_ptr()
        if self._calls:
            with torch.no_grad():
                for part, call in enumerate(self._calls):
                    self._loops(part, address)
                    call(passed)
        self._loops(len(self._calls), address)
        return [passed[slot] if part is None else part(passed) for slot, part in self._results]

    def in_c(self) -> tuple[int, int, int]:
        """Return what a caller in C needs: ``hesrl_step``, its memory, and the slot of the result.

        Raises:
            NotImplementedError: PyTorch takes part, or there is more than one result.
        """
        if self._calls or len(self._like) != 1 or len(self._results) != 1:
            raise NotImplementedError("the step is not C alone with one new result")
        ((slot, _),) = self._results
        function = ctypes.cast(self._function, ctypes.c_void_p).value
        assert function is not None
        return function, self._start, slot

    def _loops(self, part: int, address: int) -> None:
        if self._function(part, address, self._start):
            raise IndexError("an index of the minibatch is out of range")

    def _result(self, x: Tensor) -> tuple[int, Callable[[list[Tensor]], Tensor] | None]:
        """Return the number of an argument, and what finds in it a result that is only a part."""
        buffer = self._translation.buffer(x)
        slot, is_new = buffer.slot or 0, buffer in self._translation.new
        is_whole = is_new and self._translation.new[buffer] == x.shape and x.is_contiguous()
        return slot, None if is_whole else self._tensor(x)

    def _tensor(self, x: Tensor) -> Callable[[list[Tensor]], Tensor]:
        """Return what finds a tensor, given one without memory, among the arguments."""
        shape, strides, offset = x.shape, x.stride(), x.storage_offset()
        buffer = self._translation.buffer(x)
        if buffer.slot is None:
            begin = self._places[buffer]
            part = self._memory[begin : begin + buffer.size * buffer.dtype.itemsize]
            whole = part.view(buffer.dtype)
            view = whole.as_strided(shape, strides, whole.storage_offset() + offset)
            return lambda _: view
        slot = buffer.slot

        def tensor(passed: list[Tensor]) -> Tensor:
            whole = passed[slot]
            return whole.as_strided(shape, strides, whole.storage_offset() + offset)

        return tensor

    def _call(self, call: Call) -> Callable[[list[Tensor]], None]:
        """Return what takes an operation of PyTorch."""
        leaves, structure = tree_flatten((call.args, call.kwargs))
        given = [(n, self._tensor(x)) for n, x in enumerate(leaves) if isinstance(x, Tensor)]
        count, names = len(call.args), list(call.kwargs)
        whole = *call.args, *call.kwargs.values()
        is_flat = not any(isinstance(x, list | tuple) for x in whole)
        new = {id(x) for x in call.results}
        made = [x for x in tree_leaves(call.out) if isinstance(x, Tensor)]
        copied = [(n, self._tensor(x)) for n, x in enumerate(made) if id(x) in new]
        operation = getattr(call.operation, "_op", call.operation)

        def take(passed: list[Tensor]) -> None:
            found = leaves.copy()
            for number, place in given:
                found[number] = place(passed)
            if is_flat:
                result = operation(*found[:count], **dict(zip(names, found[count:], strict=True)))
            else:
                args, kwargs = structure.unflatten(found)
                result = operation(*args, **kwargs)
            if isinstance(result, Tensor):
                result = (result,)
            elif copied:
                result = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
            for number, place in copied:
                place(passed).copy_(result[number])

        return take
