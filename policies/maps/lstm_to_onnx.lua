-- lstm_to_onnx.lua: a one-way torch.nn.LSTM of any number of layers, as the inputs W, R, B of ONNX's LSTM operator.
-- By name.
--
-- Source: torch/nn/modules/rnn.py; onnx/docs/Operators.md, LSTM. torch has input, forget, cell, output gate; ONNX
-- input, output, forget, cell. First the gates are taken apart, then put together in the other order below a leading
-- dimension of directions.
local function gates(name) return { name .. ".i", name .. ".f", name .. ".c", name .. ".o" } end

local function reordered(name, to)
  return { gather = { i = name .. ".i", o = name .. ".o", f = name .. ".f", c = name .. ".c" },
    order = { "i", "o", "f", "c" }, op = { { "cat", 0 }, { "unsqueeze", 0 } }, to = to }
end

return {
  id = "lstm_to_onnx", version = 1, from = "torch_lstm", to = "onnx_lstm",
  stages = {
    {
      { "{*}.weight_ih_l{n}", op = { "chunk", 0, 4 }, to = gates "{1}.ih_l{n}" },
      { "{*}.weight_hh_l{n}", op = { "chunk", 0, 4 }, to = gates "{1}.hh_l{n}" },
      { "{*}.bias_{s}_l{n}", op = { "chunk", 0, 4 }, to = gates "{1}.bias_{s}_l{n}", optional = true },
    }, {
      reordered("{*}.ih_l{n}", "{1}.l{n}.W"),
      reordered("{*}.hh_l{n}", "{1}.l{n}.R"),
      { gather = {
          wi = "{*}.bias_ih_l{n}.i", wo = "{*}.bias_ih_l{n}.o", wf = "{*}.bias_ih_l{n}.f", wc = "{*}.bias_ih_l{n}.c",
          ri = "{*}.bias_hh_l{n}.i", ro = "{*}.bias_hh_l{n}.o", rf = "{*}.bias_hh_l{n}.f", rc = "{*}.bias_hh_l{n}.c" },
        order = { "wi", "wo", "wf", "wc", "ri", "ro", "rf", "rc" },
        op = { { "cat", 0 }, { "unsqueeze", 0 } }, to = "{1}.l{n}.B", optional = true },
    },
  },
  expect = { fired = "all", forbid = { "{*}.weight_ih_l{n}_reverse" } },
}
