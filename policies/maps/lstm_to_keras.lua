-- lstm_to_keras.lua: a one-way torch.nn.LSTM, as Keras LSTM layers: one bias, the gates in columns. By name.
--
-- Source: torch/nn/modules/rnn.py; keras/src/layers/rnn/lstm.py. Both have input, forget, cell, output gate. torch
-- adds two biases where Keras has one: their sum cannot be taken apart again.
return {
  id = "lstm_to_keras", version = 1, from = "torch_lstm", to = "keras_lstm",
  stages = { {
    { "{*}.weight_ih_l{n}", to = "{1}.l{n}.kernel", op = { "transpose", 0, 1 } },
    { "{*}.weight_hh_l{n}", to = "{1}.l{n}.recurrent_kernel", op = { "transpose", 0, 1 } },
    { gather = { ih = "{*}.bias_ih_l{n}", hh = "{*}.bias_hh_l{n}" }, order = { "ih", "hh" },
      op = { { "stack", 0 }, { "sum", 0 }, { "squeeze", 0 } }, to = "{1}.l{n}.bias", lossy = true, optional = true },
  } },
  expect = { fired = "all", forbid = { "{*}.weight_ih_l{n}_reverse" } },
}
