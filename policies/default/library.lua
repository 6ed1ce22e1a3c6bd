-- library.lua: the rule sets of policies/maps/ that a load which matches too little is tried with, for "did you mean".
-- Only those whose `detect` fits the file are. Part of policies/default.lua.
return {
  "vgg16_reducedfc", "torchvision_resnet_to_detectron2", "torchvision_vgg16_to_keras", "detectron_c2_to_detectron2",
  "openai_clip_vit_to_timm", "dinov2_to_timm", "dinov2_reg_to_timm", "beit3_to_timm", "hf_bert_gamma_beta",
  "meta_llama_to_hf", "hf_llama_to_meta", "phi3_to_llama", "mixtral_merge_experts", "mixtral_split_experts",
  "weight_norm_to_parametrizations", "parametrizations_to_weight_norm", "lstm_to_burn", "lstm_to_keras", "lstm_to_onnx",
}
