/* SPDX-License-Identifier: MIT */
/* infer/step.c - see step.h. */
#include "infer/step.h"

#include <assert.h>

/* In place, and the value stays what it was: each head is only normed, clipped or turned. */
static bool adjusts(const nib_step *s)
{
    return s->op == NIB_OP_HEAD_NORM || s->op == NIB_OP_ROPE || s->op == NIB_OP_TEMPER ||
           s->op == NIB_OP_CLIP || s->op == NIB_OP_ROUTE || s->op == NIB_OP_CONVOLVE ||
           s->op == NIB_OP_STEP_SIZE || s->op == NIB_OP_DECAY;
}

static bool has_two_operands(const nib_step *s)
{
    return s->op == NIB_OP_GLU || s->op == NIB_OP_GLU_CLAMP || s->op == NIB_OP_SIGMOID ||
           s->op == NIB_OP_ADD || s->op == NIB_OP_KEYS || s->op == NIB_OP_DELTA;
}

static bool reads(const nib_step *s, nib_reg r)
{
    if (s->to == r && (adjusts(s) || (s->flags & NIB_STEP_ADD))) return true;
    if (adjusts(s)) return false;
    if (s->op == NIB_OP_DELTA && r == NIB_REG_LA) return true;
    if (s->op == NIB_OP_ATTEND && (r == NIB_REG_K || r == NIB_REG_V)) return true;
    return s->a == r || (has_two_operands(s) && s->b == r);
}

static bool writes(const nib_step *s, nib_reg r)
{
    return s->to == r && !adjusts(s);
}

bool nib_step_reads_other(const nib_step *s, const bool there[NIB_REG_COUNT])
{
    for (nib_reg r = 0; r < NIB_REG_COUNT; r++)
        if (!there[r] && reads(s, r)) return true;
    return false;
}

/* The last step before `end` that gave the register its value; s->n: it came from outside. */
static size_t writer_before(const nib_steps *s, nib_reg r, size_t end)
{
    while (end-- > 0)
        if (writes(&s->step[end], r)) return end;
    return s->n;
}

/* Is the value that step `from` made read by linears alone, and not added to? */
static bool only_linears_read(const nib_steps *s, size_t from)
{
    const nib_reg r = s->step[from].to;
    for (size_t i = from + 1; i < s->n; i++) {
        if (reads(&s->step[i], r) && (s->step[i].op != NIB_OP_LINEAR || s->step[i].to == r))
            return false;
        if (writes(&s->step[i], r)) return true;
    }
    return true;
}

/* The linear whose output is in the register before step `end`, as it came out. */
static nib_role linear_before(const nib_steps *s, nib_reg r, size_t end)
{
    while (end-- > 0) {
        const nib_step *t = &s->step[end];
        if (t->to == r)
            return t->op == NIB_OP_LINEAR && !(t->flags & NIB_STEP_ADD) ? t->weight : NIB_ROLE_NONE;
    }
    return NIB_ROLE_NONE;
}

/* What can divide the channels of the value that step `at` makes. */
static void find_producer(nib_input *in, const nib_steps *s, size_t at)
{
    const nib_step *t = &s->step[at];
    if (!only_linears_read(s, at)) return;
    if (t->op == NIB_OP_NORM) in->producer = t->weight;
    if (t->op == NIB_OP_GLU) in->producer = linear_before(s, t->b, at);
    if (t->op == NIB_OP_RELU) in->producer = linear_before(s, t->a, at);
    if (t->op == NIB_OP_ATTEND) in->producer = linear_before(s, NIB_REG_V, at);
    in->by_heads = t->op == NIB_OP_ATTEND;
}

void nib_steps_inputs(nib_inputs *out, const nib_steps *s)
{
    size_t made_by[NIB_INPUTS_MAX];
    out->n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const nib_step *t = &s->step[i];
        if (t->op != NIB_OP_LINEAR) continue;
        const size_t from = writer_before(s, t->a, i);
        size_t k = 0;
        while (k < out->n && (made_by[k] != from || s->step[out->input[k].first].a != t->a)) k++;
        nib_input *in = &out->input[k];
        if (k == out->n) {
            assert(k < NIB_INPUTS_MAX);
            made_by[out->n++] = from;
            *in = (nib_input){.first = i};
            if (from < s->n) find_producer(in, s, from);
        }
        assert(in->n_readers < NIB_READERS_MAX);
        assert(!in->n_experts || t->flags & NIB_STEP_EXPERT);
        in->n_experts += (t->flags & NIB_STEP_EXPERT) != 0;
        in->reader[in->n_readers++] = t->weight;
        in->last = i;
    }
}

size_t nib_steps_first_reader(const nib_steps *s, nib_role linear)
{
    nib_inputs all;
    nib_steps_inputs(&all, s);
    for (size_t i = 0; i < all.n; i++)
        for (size_t k = 0; k < all.input[i].n_readers; k++)
            if (all.input[i].reader[k] == linear) return all.input[i].first;
    return s->n;
}

size_t nib_steps_last_reader(const nib_steps *s, nib_role linear)
{
    nib_inputs all;
    nib_steps_inputs(&all, s);
    for (size_t i = 0; i < all.n; i++)
        for (size_t k = 0; k < all.input[i].n_readers; k++)
            if (all.input[i].reader[k] == linear) return all.input[i].last;
    return s->n;
}

size_t nib_steps_channels_of(nib_role role[2], const nib_steps *s, nib_role linear)
{
    nib_inputs all;
    size_t readers = 0, n;
    const nib_step *reader = nib_steps_find(s, linear);
    nib_steps_inputs(&all, s);
    for (size_t i = 0; i < all.n; i++)
        for (size_t k = 0; k < all.input[i].n_readers; k++)
            if (all.input[i].reader[k] == linear) readers = all.input[i].n_readers;
    if (readers != 1) return 0;
    const size_t at = writer_before(s, reader->a, (size_t)(reader - s->step));
    if (at == s->n || !only_linears_read(s, at)) return 0;
    const nib_step *t = &s->step[at];
    if (t->op == NIB_OP_GLU || t->op == NIB_OP_GLU_CLAMP)
        n = 2;
    else if (t->op == NIB_OP_ACT || t->op == NIB_OP_RELU)
        n = 1;
    else
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!(role[i] = linear_before(s, i ? t->b : t->a, at))) return 0;
    return n;
}

nib_role nib_steps_values_of(const nib_steps *s, nib_role linear)
{
    nib_inputs all;
    nib_steps_inputs(&all, s);
    for (size_t i = 0; i < all.n; i++) {
        const nib_input *in = &all.input[i];
        if (in->by_heads && in->n_readers == 1 && in->reader[0] == linear) return in->producer;
    }
    return NIB_ROLE_NONE;
}

const nib_step *nib_steps_find(const nib_steps *s, nib_role weight)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->step[i].weight == weight) return &s->step[i];
    return NULL;
}

nib_output_use nib_steps_output(const nib_steps *s, nib_role linear)
{
    nib_output_use use = {false, false};
    const nib_step *made = nib_steps_find(s, linear);
    if (!made || made->op != NIB_OP_LINEAR) return use;
    for (const nib_step *t = made + 1; t < s->step + s->n; t++) {
        use.turned |= t->op == NIB_OP_ROPE && t->to == made->to;
        use.scores |= t->op == NIB_OP_ATTEND && (made->to == t->a || made->to == NIB_REG_K);
        use.scores |= t->op == NIB_OP_PART && t->a == made->to && t->to == NIB_REG_Q;
        if (writes(t, made->to) && t->a != made->to) break;
    }
    return use;
}

/* Does the run of experts' steps around step i read what the register held before the run? */
static bool experts_read(const nib_steps *s, nib_reg r, size_t i)
{
    if (!(s->step[i].flags & NIB_STEP_EXPERT)) return false;
    while (i > 0 && s->step[i - 1].flags & NIB_STEP_EXPERT) i--;
    for (; i < s->n && s->step[i].flags & NIB_STEP_EXPERT; i++) {
        if (reads(&s->step[i], r)) return true;
        if (writes(&s->step[i], r)) return false;
    }
    return false;
}

/* Is what the register holds before step i still read, by that step, a later one, or the same step
 * of the next expert? */
static bool is_live(const nib_steps *s, nib_reg r, size_t i)
{
    if (experts_read(s, r, i)) return true;
    for (; i < s->n; i++) {
        if (reads(&s->step[i], r)) return true;
        if (writes(&s->step[i], r)) return false;
    }
    return false;
}

/* The first place that is wide enough beside what is live at step i. */
static size_t find_gap(const nib_steps *s, size_t i, const size_t where[NIB_REG_COUNT],
                       const size_t width[NIB_REG_COUNT])
{
    const size_t want = width[s->step[i].to];
    size_t from = 0;
    for (nib_reg r = NIB_REG_X + 1; r < NIB_REG_COUNT; r++) {
        if (!is_live(s, r, i) || from + want <= where[r] || where[r] + width[r] <= from) continue;
        from = where[r] + width[r];
        r = NIB_REG_X; /* from the first again */
    }
    return from;
}

size_t nib_steps_layout(size_t at[NIB_STEPS_MAX], const nib_steps *s,
                        const size_t width[NIB_REG_COUNT])
{
    size_t where[NIB_REG_COUNT] = {0}, total = 0;
    assert(s->n <= NIB_STEPS_MAX);
    for (size_t i = 0; i < s->n; i++) {
        const nib_reg to = s->step[i].to;
        if (to != NIB_REG_X && !reads(&s->step[i], to)) where[to] = find_gap(s, i, where, width);
        at[i] = where[to];
        if (to != NIB_REG_X && at[i] + width[to] > total) total = at[i] + width[to];
    }
    return total;
}
