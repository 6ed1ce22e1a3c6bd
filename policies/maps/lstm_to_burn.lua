-- lstm_to_burn.lua: a one-layer, one-way torch.nn.LSTM, as burn's Lstm: a linear layer for each gate, with its input
-- in rows. Asked for by name: a file does not tell which framework it shall go to.
--
-- Source: torch/nn/modules/rnn.py (rows: input, forget, cell, output gate); burn-nn's GateController
-- (tracel-ai/burn#1632).
local function gates(part)
  local names = {}
  for k, gate in ipairs { "input", "forget", "cell", "output" } do names[k] = ("{1}.%s_gate.%s"):format(gate, part) end
  return names
end

return {
  id = "lstm_to_burn", version = 1, from = "torch_lstm", to = "burn_lstm",
  stages = { {
    { "{*}.weight_ih_l0", op = { { "transpose", 0, 1 }, { "chunk", 1, 4 } }, to = gates "input_transform.weight" },
    { "{*}.weight_hh_l0", op = { { "transpose", 0, 1 }, { "chunk", 1, 4 } }, to = gates "hidden_transform.weight" },
    { "{*}.bias_ih_l0", op = { "chunk", 0, 4 }, to = gates "input_transform.bias", optional = true },
    { "{*}.bias_hh_l0", op = { "chunk", 0, 4 }, to = gates "hidden_transform.bias", optional = true },
  } },
  expect = { fired = "all", forbid = { "{*}.weight_ih_l{n}", "{*}.weight_ih_l{n}_reverse" } },
}
