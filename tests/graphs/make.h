/* make.h - random value graphs of our own, built through the runtime's builders. */
#ifndef TESTS_GRAPHS_MAKE_H
#define TESTS_GRAPHS_MAKE_H

#include "value.h"

/* The graph of that seed: always the same. Its classes are those of graph_classes.py. */
ckpt_status make_graph(ckpt_value **out, ckpt_document *doc, uint64_t seed, ckpt_error *err);

#endif
