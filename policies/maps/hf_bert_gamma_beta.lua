-- hf_bert_gamma_beta.lua: TensorFlow's names of a LayerNorm's scale and shift in older Hugging Face BERT files, as
-- PyTorch's.
--
-- Source: transformers/models/bert/modeling_bert.py. Whole segments below a LayerNorm only: a layer scale is called
-- `gamma` by right (huggingface/transformers#29554). Files of some releases have the buffer position_ids, others do
-- not.
return {
  id = "hf_bert_gamma_beta", version = 1, from = "tensorflow_names", to = "pytorch_names",
  detect = { keys = { "{*}.LayerNorm.gamma", "{*}.LayerNorm.beta" } },
  stages = { {
    { "{*}.LayerNorm.gamma", to = "{1}.LayerNorm.weight" },
    { "{*}.LayerNorm.beta", to = "{1}.LayerNorm.bias" },
    { "embeddings.position_ids", drop = true, optional = true },
    { "{*}.embeddings.position_ids", drop = true, optional = true },
  } },
  expect = { fired = "all" },
}
