"""FastDeploy's compiled ops as far as its scheduler and model runner meet them, by what they do, in numpy.

Each writes the memory of Paddle's CPU tensors in place, as the kernels do on the device.
"""

import numpy as np
import paddle


def flat(tensor):
    """A tensor's memory as one axis."""
    return np.from_dlpack(tensor).reshape(-1)


def custom_numpy_to_tensor(source, target):
    """Copy a host array to a tensor of as many elements."""
    view = np.from_dlpack(target)
    view[...] = np.asarray(source).reshape(view.shape)
    return target


def recover_decode_task(stop, this_time, encoder, decoder, waits, tables, blocked, *rest):
    """A slot that waited for a block goes on once its table has one."""
    block_size, tables = rest[-2], np.from_dlpack(tables)
    for slot in np.flatnonzero(flat(blocked)):
        position = flat(waits)[slot]
        if tables[slot, position // block_size] != -1:
            flat(blocked)[slot] = flat(stop)[slot] = False
            flat(this_time)[slot], flat(encoder)[slot], flat(decoder)[slot] = 1, 0, position


def get_padding_offset(input_ids, lengths, draft_tokens, encoder, count):
    """Tokens of all slots end to end, whose slot each is, and where each slot's begin (twice)."""
    lengths, tokens = flat(lengths), np.from_dlpack(input_ids)
    ids = [tokens[slot, offset] for slot, length in enumerate(lengths) for offset in range(length)]
    starts = paddle.to_tensor(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    owner = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    assert len(ids) == count
    return paddle.to_tensor(np.array(ids, np.int64)), paddle.to_tensor(owner), starts, starts.clone()


def rebuild_padding(hidden, starts, lengths, decoder, encoder, *rest):
    """The last row of every slot, zeros where a slot runs none."""
    rows = np.zeros((len(flat(starts)) - 1, hidden.shape[1]), np.float32)
    for slot, length in enumerate(flat(lengths)):
        if length:
            rows[slot] = np.from_dlpack(hidden)[flat(starts)[slot] + max(flat(encoder)[slot] - 1, 0)]
    return paddle.to_tensor(rows)


def set_stop_value_multi_ends(drawn, stop, lengths, ends, following, *rest):
    """A slot that stops, or drew an end token, ends with the first end token."""
    for slot in range(len(flat(drawn))):
        if flat(stop)[slot] and not flat(lengths)[slot]:
            flat(drawn)[slot] = -1
        elif flat(stop)[slot] or flat(drawn)[slot] in flat(ends):
            flat(drawn)[slot] = flat(following)[slot] = flat(ends)[0]
            flat(stop)[slot] = True
        else:
            flat(following)[slot] = flat(drawn)[slot]


def update_inputs_v1(
    stop, goes_on, lengths, encoder, decoder, waits, needed, drawn, ids, tables, following, blocked, size
):
    """Every slot to its next step: decoding, waiting for a chunk, waiting for a block, or over."""
    for slot in range(len(flat(lengths))):
        reached = flat(lengths)[slot] + flat(decoder)[slot]
        chunk_is_over = reached < flat(needed)[slot]
        if flat(stop)[slot] or chunk_is_over:
            if chunk_is_over:
                flat(drawn)[slot] = -1
            flat(stop)[slot] = True
            flat(lengths)[slot] = flat(decoder)[slot] = flat(encoder)[slot] = 0
            continue
        flat(lengths)[slot], flat(decoder)[slot], flat(encoder)[slot] = 1, reached, 0
        np.from_dlpack(ids)[slot, 0] = flat(following)[slot]
        if np.from_dlpack(tables)[slot, reached // size] == -1:
            flat(blocked)[slot] = flat(stop)[slot] = True
            flat(waits)[slot] = reached
            flat(lengths)[slot] = flat(decoder)[slot] = 0
    flat(goes_on)[0] = bool((~flat(stop)).any())


OPS = {
    op.__name__: op
    for op in (
        *(custom_numpy_to_tensor, recover_decode_task, get_padding_offset, rebuild_padding),
        *(set_stop_value_multi_ends, update_inputs_v1),
    )
}
"""By their names in `fastdeploy.model_executor.ops.gpu`; all others do nothing."""
