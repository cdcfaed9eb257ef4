#include "autograd/op_cost.h"

double op_cost_elements(const tensor *t) {
    return t ? (double)tensor_count(t) : 0;
}

double op_cost_bytes(const tensor *t) {
    return t ? (double)tensor_bytes(t) : 0;
}

double op_cost_of_product(const op_call *call, bool backward, double flops) {
    return backward ? flops * ((call->d_in[0] != NULL) + (call->d_in[1] != NULL)) : flops;
}

static op_cost bytes_forward(const op_call *call) {
    op_cost cost = {0};
    for (int i = 0; i < call->op->n_inputs; i++) cost.read_bytes += op_cost_bytes(call->in[i]);
    for (int i = 0; i < call->op->n_outputs; i++) cost.written_bytes += op_cost_bytes(call->out[i]);
    return cost;
}

static op_cost bytes_backward(const op_call *call) {
    const op_def *op = call->op;
    unsigned outputs = op_backward_reads_outputs(call);
    op_cost cost = {0};
    for (int i = 0; i < op->n_inputs; i++) {
        if (op->backward_reads_inputs >> i & 1u) cost.read_bytes += op_cost_bytes(call->in[i]);
        cost.written_bytes += op_cost_bytes(call->d_in[i]);
        if (call->accumulate[i]) cost.read_bytes += op_cost_bytes(call->d_in[i]);
    }
    for (int i = 0; i < op->n_outputs; i++) {
        if (outputs >> i & 1u) cost.read_bytes += op_cost_bytes(call->out[i]);
        cost.read_bytes += op_cost_bytes(call->d_out[i]);
    }
    return cost;
}

op_cost op_cost_of(const op_call *call, bool backward) {
    op_cost cost = backward ? bytes_backward(call) : bytes_forward(call);
    if (call->op->cost) call->op->cost(&cost, call, backward);
    return cost;
}
