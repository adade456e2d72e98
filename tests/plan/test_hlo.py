"""Figures read from programs written by hand, worked out by hand."""

import pytest

from vq_jax.plan.hlo import COLLECTIVES, read_program
from vq_jax.plan.hlo_text import Buffer

# A loop of five rounds, each with a product and an all-reduce; collectives outside, begun and waited for.
PROGRAM = """HloModule jit_step, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused_row (p0: f32[5,16,16], p1: s32[]) -> f32[1,16,16] {
  %p0 = f32[5,16,16]{2,1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,16,16]{2,1,0} dynamic-slice(%p0, %p1, %zero, %zero), dynamic_slice_sizes={1,16,16}
}

%fused_write (q0: f32[5,16,16], q1: f32[1,16,16], q2: s32[]) -> f32[5,16,16] {
  %q0 = f32[5,16,16]{2,1,0} parameter(0)
  %q1 = f32[1,16,16]{2,1,0} parameter(1)
  %q2 = s32[] parameter(2)
  %none = s32[] constant(0)
  ROOT %changed = f32[5,16,16]{2,1,0} dynamic-update-slice(%q0, %q1, %q2, %none, %none)
}

%condition (state: (s32[], f32[5,16,16], f32[5,16,16])) -> pred[] {
  %state = (s32[], f32[5,16,16]{2,1,0}, f32[5,16,16]{2,1,0}) parameter(0)
  %round = s32[] get-tuple-element(%state), index=0
  %rounds = s32[] constant(5)
  ROOT %more = pred[] compare(%round, %rounds), direction=LT
}

%body (state.1: (s32[], f32[5,16,16], f32[5,16,16])) -> (s32[], f32[5,16,16], f32[5,16,16]) {
  %state.1 = (s32[], f32[5,16,16]{2,1,0}, /*index=2*/f32[5,16,16]{2,1,0}) parameter(0)
  %i = s32[]{:S(2)} get-tuple-element(%state.1), index=0
  %weights = f32[5,16,16]{2,1,0} get-tuple-element(%state.1), index=1
  %grads = f32[5,16,16]{2,1,0} get-tuple-element(%state.1), index=2
  %weight = f32[1,16,16]{2,1,0:S(1)} fusion(%weights, %i), kind=kLoop, calls=%fused_row
  %flat = f32[16,16]{1,0:S(1)} bitcast(%weight)
  %product = f32[16,16]{1,0:S(1)} dot(%flat, %flat), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %reduced = f32[16,16]{1,0:S(1)} all-reduce(%product), replica_groups=[2,4]<=[8], to_apply=%add
  %part = f32[1,16,16]{2,1,0:S(1)} bitcast(%reduced)
  %written = f32[5,16,16]{2,1,0} fusion(%grads, %part, %i), kind=kLoop, calls=%fused_write
  %one = s32[] constant(1)
  %next = s32[]{:S(2)} add(%i, %i)
  ROOT %out = (s32[], f32[5,16,16]{2,1,0}, f32[5,16,16]{2,1,0}) tuple(%next, %weights, %written)
}

ENTRY %main (w: f32[5,16,16], g: f32[5,16,16], x: bf16[8,32]) -> f32[5,16,16] {
  %w = f32[5,16,16]{2,1,0} parameter(0)
  %g = f32[5,16,16]{2,1,0} parameter(1)
  %x = bf16[8,32]{1,0} parameter(2)
  %start = s32[] constant(0)
  %initial = (s32[], f32[5,16,16]{2,1,0}, f32[5,16,16]{2,1,0}) tuple(%start, %w, %g)
  %loop = (s32[], f32[5,16,16]{2,1,0}, f32[5,16,16]{2,1,0}) while(%initial), condition=%condition, body=%body
  %gathering = (bf16[8,32]{1,0}, bf16[64,32]{1,0:S(1)}) all-gather-start(%x), replica_groups=[1,8]<=[8]
  %gathered = bf16[64,32]{1,0:S(1)} all-gather-done(%gathering)
  %scattered = bf16[8,32]{1,0:S(1)} reduce-scatter(%gathered), replica_groups=mesh['a'=2,'b'=4] {'b'}
  %slicing = ((bf16[8,32]{1,0}), bf16[2,32]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:2], [0:32]}
  %sliced = bf16[2,32]{1,0:S(1)} slice-done(%slicing)
  %turned = bf16[8,32]{1,0:S(1)} collective-permute(%scattered), source_target_pairs={{0,1},{1,0}}
  %exchanged = bf16[8,32]{1,0:S(1)} all-to-all(%turned), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  ROOT %result = f32[5,16,16]{2,1,0} get-tuple-element(%loop), index=2
}
"""


@pytest.fixture(scope="module")
def program():
    return read_program(PROGRAM)


def test_collectives_count_by_the_rounds_of_their_loop(program):
    found = {(c.kind, c.group): (c.count, c.bytes) for c in program.collectives}
    assert found == {
        ("all-reduce", 4): (5, 5 * 16 * 16 * 4),
        ("all-gather", 8): (1, 64 * 32 * 2),  # what it makes
        ("reduce-scatter", 4): (1, 64 * 32 * 2),  # what it is given
        ("collective-permute", 8): (1, 8 * 32 * 2),
        ("all-to-all", 4): (1, 8 * 32 * 2),
    }
    assert {kind for kind, _ in found} == set(COLLECTIVES)


def test_bytes_that_a_chip_has_to_send(program):
    sent = {c.kind: c.sent for c in program.collectives}
    assert sent["all-reduce"] == 2 * 3 / 4 * 5 * 1024  # a scattered sum and its gathering
    assert sent["all-gather"] == 7 / 8 * 4096
    assert sent["reduce-scatter"] == 3 / 4 * 4096
    assert sent["collective-permute"] == 512
    assert sent["all-to-all"] == 3 / 4 * 512


def test_a_collective_of_one_chip_sends_nothing():
    alone = PROGRAM.replace("[2,4]<=[8]", "[8,1]<=[8]")
    reduce = next(c for c in read_program(alone).collectives if c.kind == "all-reduce")
    assert reduce.group == 1 and reduce.sent == 0.0 and reduce.count == 5


def test_products_count_by_the_rounds_of_their_loop(program):
    assert program.flops == 5 * 2 * 16**3
    assert program.loops_of_unknown_length == 0


def test_traffic_counts_the_parts_of_hbm_that_are_read_or_written(program):
    # A round reads a row of the weights and writes a row of the gradients; x is gathered from HBM, and two
    # of its rows are read.
    assert program.hbm_bytes == 5 * (1024 + 1024) + 8 * 32 * 2 + 2 * 32 * 2


def test_a_loop_of_unknown_length_counts_once_and_is_reported():
    unknown = PROGRAM.replace(
        "%rounds = s32[] constant(5)", "%rounds = s32[] get-tuple-element(%state), index=0"
    )
    program = read_program(unknown)
    assert program.loops_of_unknown_length == 1 and program.flops == 2 * 16**3


def test_the_compilers_own_count_of_rounds_is_taken():
    counted = PROGRAM.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert read_program(counted).flops == 7 * 2 * 16**3


def test_a_conditional_counts_as_its_most_expensive_branch():
    text = """HloModule jit_step, num_partitions=4

%dear (d: f32[4,4]) -> f32[4,4] {
  %d = f32[4,4]{1,0} parameter(0)
  ROOT %dd = f32[4,4]{1,0} dot(%d, %d), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%cheap (c: f32[4,4]) -> f32[4,4] {
  %c = f32[4,4]{1,0} parameter(0)
  ROOT %cc = f32[4,4]{1,0} negate(%c)
}

ENTRY %main (p: pred[], x: f32[4,4]) -> f32[4,4] {
  %p = pred[] parameter(0)
  %x = f32[4,4]{1,0} parameter(1)
  ROOT %either = f32[4,4]{1,0} conditional(%p, %x, %x), true_computation=%cheap, false_computation=%dear
}
"""
    program = read_program(text)
    assert program.flops == 2 * 4**3 and program.hbm_bytes == 3 * 64 and program.collectives == ()


def pairs(given, made, taps, stride, pad, spread, spread_taps):
    """Output and tap, one by one."""
    places = {place * spread for place in range(given)}
    return sum(
        output * stride + tap * spread_taps - pad in places for output in range(made) for tap in range(taps)
    )


@pytest.mark.parametrize(
    "window, numbers",
    [
        ("size=3x3 pad=1_1x1_1", (8, 8, 3, 1, 1, 1, 1)),
        # the gradient of a stride of two: inputs with zeros between
        ("size=4x4 pad=2_2x2_2 lhs_dilate=2x2", (8, 16, 4, 1, 2, 2, 1)),
        ("size=3x3 stride=2x2 pad=0_1x0_1", (8, 4, 3, 2, 0, 1, 1)),
        ("size=3x3 pad=2_2x2_2 rhs_dilate=2x2", (8, 8, 3, 1, 2, 1, 2)),
        # products over a batch of eight, each output with one tap of its own, as the compiler writes them
        ("size=8x8 stride=7x7 lhs_dilate=8x8", (8, 8, 8, 7, 0, 8, 1)),
        ("size=8x8 pad=7_7x7_7 rhs_reversal=1x1", (1, 8, 8, 1, 7, 1, 1)),
    ],
)
def test_a_convolution_counts_what_meets_an_input(window, numbers):
    given, made, taps = numbers[:3]
    attributes = f"window={{{window}}}, dim_labels=b01f_01io->b01f"
    text = f"""HloModule jit_step

%fused (a: bf16[2,{given},{given},4], b: bf16[{taps},{taps},4,16]) -> bf16[2,{made},{made},16] {{
  %a = bf16[2,{given},{given},4]{{3,2,1,0}} parameter(0)
  %b = bf16[{taps},{taps},4,16]{{3,2,1,0}} parameter(1)
  ROOT %c = bf16[2,{made},{made},16]{{3,2,1,0}} convolution(%a, %b), {attributes}
}}

ENTRY %main (x: bf16[2,{given},{given},4], k: bf16[{taps},{taps},4,16]) -> bf16[2,{made},{made},16] {{
  %x = bf16[2,{given},{given},4]{{3,2,1,0}} parameter(0)
  %k = bf16[{taps},{taps},4,16]{{3,2,1,0}} parameter(1)
  ROOT %y = bf16[2,{made},{made},16]{{3,2,1,0}} fusion(%x, %k), kind=kOutput, calls=%fused
}}
"""
    program = read_program(text)
    assert program.flops == 2 * 2 * 4 * 16 * pairs(*numbers) ** 2 > 0
    assert program.hbm_bytes == 2 * (2 * given**2 * 4 + taps**2 * 4 * 16 + 2 * made**2 * 16)


def test_a_buffer_in_tiles_takes_whole_ones():
    buffer = Buffer("bf16", (3, 5, 100), "2,1,0:T(8,128)(2,1)")
    assert buffer.bytes == 3 * 5 * 100 * 2 and buffer.padded_bytes == 3 * 8 * 128 * 2
    assert Buffer("f32", (), ":T(128)").padded_bytes == 128 * 4
    turned = Buffer("f32", (100, 5), "0,1:T(8,128)")  # the first axis is the fast one
    assert turned.padded_bytes == 8 * 128 * 4
    assert Buffer("pred", (10,)).padded_bytes == 10 and Buffer("s4", (10,)).bytes == 5
    assert Buffer("f8e4m3fn", (10,)).bytes == 10


@pytest.mark.parametrize("text", ["", "HloModule jit_step\n", "%add (a: f32[]) -> f32[] {\n}\n"])
def test_text_that_is_not_a_program_is_refused(text):
    with pytest.raises(ValueError, match="no ENTRY computation"):
        read_program(text)
