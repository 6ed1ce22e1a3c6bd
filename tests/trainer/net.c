/* net.c - forward and backward of the net, one sample at a time. */
#include "net.h"

#include <math.h>
#include <string.h>

enum { PADDED = NET_SIDE + 2, POOLED_SIDE = NET_SIDE / 2, POOLED_AREA = POOLED_SIDE * POOLED_SIDE };

const net_param net_params[NET_PARAMS] = {
    {"conv1.weight", offsetof(net, conv1_weight), 4, {NET_CHANNELS, 1, 3, 3}},
    {"conv1.bias", offsetof(net, conv1_bias), 1, {NET_CHANNELS}},
    {"fc1.weight", offsetof(net, fc1_weight), 2, {NET_HIDDEN, NET_POOLED}},
    {"fc1.bias", offsetof(net, fc1_bias), 1, {NET_HIDDEN}},
    {"fc2.weight", offsetof(net, fc2_weight), 2, {NET_CLASSES, NET_HIDDEN}},
    {"fc2.bias", offsetof(net, fc2_bias), 1, {NET_CLASSES}},
};

typedef struct activations {
  float patch[NET_INPUTS][NET_KERNEL]; /* what the kernel sees at each pixel */
  float pooled[NET_POOLED];            /* after ReLU */
  uint8_t winner[NET_POOLED];          /* the pixel that a pooled value came from */
  float hidden[NET_HIDDEN];
  float probability[NET_CLASSES];
} activations;

float *net_data(net *n, const net_param *p) { return (float *)(void *)((char *)n + p->offset); }

float *net_floats(net *n) { return (float *)(void *)n; }

static void fill(float *w, size_t count, float limit, rng *r) {
  for (size_t i = 0; i < count; i++) w[i] = rng_uniform(r, limit);
}

void net_init(net *n, rng *r) {
  fill(&n->conv1_weight[0][0], NET_CHANNELS * NET_KERNEL, 1 / sqrtf(NET_KERNEL), r);
  fill(n->conv1_bias, NET_CHANNELS, 1 / sqrtf(NET_KERNEL), r);
  fill(&n->fc1_weight[0][0], NET_HIDDEN * NET_POOLED, 1 / sqrtf(NET_POOLED), r);
  fill(n->fc1_bias, NET_HIDDEN, 1 / sqrtf(NET_POOLED), r);
  fill(&n->fc2_weight[0][0], NET_CLASSES * NET_HIDDEN, 1 / sqrtf(NET_HIDDEN), r);
  fill(n->fc2_bias, NET_CLASSES, 1 / sqrtf(NET_HIDDEN), r);
}

/* ---- forward ---- */

/* Four sums, because one would wait for itself; `n` is a multiple of 4. */
static float dot(const float *a, const float *b, int n) {
  float s[4] = {0};
  for (int i = 0; i < n; i += 4)
    for (int k = 0; k < 4; k++) s[k] += a[i + k] * b[i + k];
  return (s[0] + s[1]) + (s[2] + s[3]);
}

static void cut_patches(float patch[NET_INPUTS][NET_KERNEL], const float *x) {
  float image[PADDED][PADDED] = {{0}};
  for (int row = 0; row < NET_SIDE; row++) memcpy(&image[row + 1][1], x + row * NET_SIDE, NET_SIDE * sizeof *x);
  for (int i = 0; i < NET_INPUTS; i++)
    for (int k = 0; k < NET_KERNEL; k++) patch[i][k] = image[i / NET_SIDE + k / 3][i % NET_SIDE + k % 3];
}

static void convolve(float out[NET_INPUTS], const activations *a, const float *kernel, float bias) {
  for (int i = 0; i < NET_INPUTS; i++) {
    float sum = bias;
    for (int k = 0; k < NET_KERNEL; k++) sum += kernel[k] * a->patch[i][k];
    out[i] = sum;
  }
}

/* The largest of each 2x2 square, and where it was; ReLU after that is the same as before. */
static void pool(activations *a, int channel, const float map[NET_INPUTS]) {
  for (int i = 0; i < POOLED_AREA; i++) {
    int corner = i / POOLED_SIDE * 2 * NET_SIDE + i % POOLED_SIDE * 2, best = corner;
    const int others[] = {corner + 1, corner + NET_SIDE, corner + NET_SIDE + 1};
    for (int k = 0; k < 3; k++)
      if (map[others[k]] > map[best]) best = others[k];
    a->winner[channel * POOLED_AREA + i] = (uint8_t)best;
    a->pooled[channel * POOLED_AREA + i] = map[best] > 0 ? map[best] : 0;
  }
}

/* Turns scores into probabilities and returns the cross entropy of class y. */
static float softmax_loss(float p[NET_CLASSES], uint8_t y) {
  float largest = p[0], sum = 0;
  for (int c = 1; c < NET_CLASSES; c++)
    if (p[c] > largest) largest = p[c];
  float score = p[y] - largest;
  for (int c = 0; c < NET_CLASSES; c++) sum += p[c] = expf(p[c] - largest);
  for (int c = 0; c < NET_CLASSES; c++) p[c] /= sum;
  return logf(sum) - score;
}

static float forward(activations *a, const net *n, const float *x, uint8_t y) {
  float map[NET_INPUTS];
  cut_patches(a->patch, x);
  for (int c = 0; c < NET_CHANNELS; c++) {
    convolve(map, a, n->conv1_weight[c], n->conv1_bias[c]);
    pool(a, c, map);
  }
  for (int h = 0; h < NET_HIDDEN; h++) {
    float v = dot(n->fc1_weight[h], a->pooled, NET_POOLED) + n->fc1_bias[h];
    a->hidden[h] = v > 0 ? v : 0;
  }
  for (int c = 0; c < NET_CLASSES; c++)
    a->probability[c] = dot(n->fc2_weight[c], a->hidden, NET_HIDDEN) + n->fc2_bias[c];
  return softmax_loss(a->probability, y);
}

float net_classify(int *predicted, const net *n, const float x[NET_INPUTS], uint8_t y) {
  activations a;
  float loss = forward(&a, n, x, y);
  int best = 0;
  for (int c = 1; c < NET_CLASSES; c++)
    if (a.probability[c] > a.probability[best]) best = c;
  *predicted = best;
  return loss;
}

/* ---- backward ---- */

static void add_scaled(float *to, float scale, const float *from, int n) {
  for (int i = 0; i < n; i++) to[i] += scale * from[i];
}

static void backward_fc2(net *grad, float *hidden_grad, const net *n, const activations *a, uint8_t y, float scale) {
  for (int c = 0; c < NET_CLASSES; c++) {
    float g = scale * (a->probability[c] - (c == y ? 1.0f : 0.0f));
    add_scaled(grad->fc2_weight[c], g, a->hidden, NET_HIDDEN);
    grad->fc2_bias[c] += g;
    add_scaled(hidden_grad, g, n->fc2_weight[c], NET_HIDDEN);
  }
}

static void backward_fc1(net *grad, float *pooled_grad, const net *n, const activations *a, const float *hidden_grad) {
  for (int h = 0; h < NET_HIDDEN; h++) {
    if (a->hidden[h] <= 0) continue;
    add_scaled(grad->fc1_weight[h], hidden_grad[h], a->pooled, NET_POOLED);
    grad->fc1_bias[h] += hidden_grad[h];
    add_scaled(pooled_grad, hidden_grad[h], n->fc1_weight[h], NET_POOLED);
  }
}

static void backward_conv1(net *grad, const activations *a, const float *pooled_grad) {
  for (int i = 0; i < NET_POOLED; i++) {
    int channel = i / POOLED_AREA;
    if (a->pooled[i] <= 0) continue;
    add_scaled(grad->conv1_weight[channel], pooled_grad[i], a->patch[a->winner[i]], NET_KERNEL);
    grad->conv1_bias[channel] += pooled_grad[i];
  }
}

float net_backward(net *grad, const net *n, const float x[NET_INPUTS], uint8_t y, float scale) {
  activations a;
  float hidden_grad[NET_HIDDEN] = {0}, pooled_grad[NET_POOLED] = {0};
  float loss = forward(&a, n, x, y);
  backward_fc2(grad, hidden_grad, n, &a, y, scale);
  backward_fc1(grad, pooled_grad, n, &a, hidden_grad);
  backward_conv1(grad, &a, pooled_grad);
  return loss;
}
