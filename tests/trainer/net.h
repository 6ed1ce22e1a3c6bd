/*
 * net.h - a small convolutional net for 8x8 digits, in float32:
 *
 *   conv1 3x3, 1 -> 16, padding 1 - ReLU - max pooling 2x2 - fc1 256 -> 64 - ReLU - fc2 64 -> 10 - softmax cross
 * entropy
 *
 * One struct holds all numbers of one kind: weights, gradients and momentum are three of it. It has no padding, so that
 * it can be walked as one array. Names and layouts are those of a PyTorch module with nn.Conv2d and nn.Linear.
 * Every sum runs in a fixed order: the same inputs give the same bits.
 */
#ifndef TRAINER_NET_H
#define TRAINER_NET_H

#include <stddef.h>
#include <stdint.h>

#include "rng.h"

enum {
  NET_SIDE = 8,
  NET_INPUTS = NET_SIDE * NET_SIDE,
  NET_CHANNELS = 16,
  NET_KERNEL = 9,                               /* 3x3 */
  NET_POOLED = NET_CHANNELS * (NET_INPUTS / 4), /* what fc1 sees: [channel][4][4] */
  NET_HIDDEN = 64,
  NET_CLASSES = 10,
  NET_PARAMS = 6
};

typedef struct net {
  float conv1_weight[NET_CHANNELS][NET_KERNEL];
  float conv1_bias[NET_CHANNELS];
  float fc1_weight[NET_HIDDEN][NET_POOLED];
  float fc1_bias[NET_HIDDEN];
  float fc2_weight[NET_CLASSES][NET_HIDDEN];
  float fc2_bias[NET_CLASSES];
} net;

enum { NET_FLOATS = sizeof(net) / sizeof(float) };

typedef struct net_param {
  const char *name;
  size_t offset; /* of its first float in a net, in bytes */
  int ndim;
  int64_t shape[4];
} net_param;

extern const net_param net_params[NET_PARAMS];

/* The first float of a parameter in a net. */
float *net_data(net *n, const net_param *p);

/* All numbers of a net as one array of NET_FLOATS. */
float *net_floats(net *n);

/* PyTorch's default: uniform in +-1/sqrt(inputs of one output), weights and biases. */
void net_init(net *n, rng *r);

/* Loss of one sample, whose gradient times `scale` is added to *grad. */
float net_backward(net *grad, const net *n, const float x[NET_INPUTS], uint8_t y, float scale);

/* Loss of one sample and the class that the net gives it. */
float net_classify(int *predicted, const net *n, const float x[NET_INPUTS], uint8_t y);

#endif
