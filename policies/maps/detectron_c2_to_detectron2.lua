-- detectron_c2_to_detectron2.lua: Caffe2 Detectron's blobs (ImageNet backbones, C4 and FPN models with box, mask and
-- keypoint heads) as detectron2 names them, below `backbone.bottom_up.` and the like, which suffix alignment finds.
--
-- Source: the names that detectron2/checkpoint/c2_model_loading.py leads from and to. A stage sees the names of the
-- one before. Detectron has the background class first and predicts boxes and masks for it; detectron2 has it last,
-- for scores only.
return {
  id = "detectron_c2_to_detectron2", version = 1, from = "detectron", to = "detectron2",
  select = { "blobs", "" },
  detect = { keys = { "conv1_w", "res2_0_branch1_w", "res5_2_branch2c_w" } },
  lookup = { branch = { ["1"] = "shortcut", ["2a"] = "conv1", ["2b"] = "conv2", ["2c"] = "conv3" } },
  stages = {
    { { "{*}_momentum", drop = true, optional = true } },
    { { sub = { "_", "." } } },
    { { tail = { ".b", ".bias" } }, { tail = { ".w", ".weight" } } },
    { { tail = { ".bn.s", ".norm.weight" }, optional = true },
      { tail = { ".bn.bias", ".norm.bias" }, optional = true },
      { tail = { ".bn.gamma", ".norm.weight" }, optional = true },
      { tail = { ".bn.beta", ".norm.bias" }, optional = true },
      { tail = { ".bn.rm", ".norm.running_mean" }, optional = true },
      { tail = { ".bn.riv", ".norm.running_var" }, optional = true },
      { tail = { ".bn.running.mean", ".norm.running_mean" }, optional = true },
      { tail = { ".bn.running.var", ".norm.running_var" }, optional = true },
      { tail = { ".gn.s", ".norm.weight" }, optional = true },
      { tail = { ".gn.bias", ".norm.bias" }, optional = true } },
    { -- backbone
      { "conv1.{*}", to = "stem.conv1.{*}" },
      { "res.conv1.norm.{s}", to = "stem.conv1.norm.{s}", optional = true },
      { "res{i}.{j}.branch{b:s}.{*}", to = "res{i}.{j}.{branch[b]}.{4}" },
      { "pred.{s}", to = "linear.{s}", optional = true },
      -- pyramid: `sum` alone is the topmost level's lateral convolution
      { "fpn.inner.res{i}.{j}.sum.lateral.{*}", to = "fpn_lateral{i}.{3}", optional = true },
      { "fpn.inner.res{i}.{j}.sum.{*}", to = "fpn_lateral{i}.{3}", optional = true },
      { "fpn.res{i}.{j}.sum.{*}", to = "fpn_output{i}.{3}", optional = true },
      -- proposals: with a pyramid, level 2 has the weights that all levels share
      { "conv.rpn.fpn2.{s}", to = "proposal_generator.rpn_head.conv.{s}", optional = true },
      { "conv.rpn.{s}", to = "proposal_generator.rpn_head.conv.{s}", optional = true },
      { "rpn.bbox.pred.fpn2.{s}", to = "proposal_generator.rpn_head.anchor_deltas.{s}", optional = true },
      { "rpn.bbox.pred.{s}", to = "proposal_generator.rpn_head.anchor_deltas.{s}", optional = true },
      { "rpn.cls.logits.fpn2.{s}", to = "proposal_generator.rpn_head.objectness_logits.{s}", optional = true },
      { "rpn.cls.logits.{s}", to = "proposal_generator.rpn_head.objectness_logits.{s}", optional = true },
      -- heads
      { "fc6.{s}", to = "box_head.fc1.{s}", optional = true }, { "fc7.{s}", to = "box_head.fc2.{s}", optional = true },
      { "head.conv{i}.{*}", to = "box_head.conv{i}.{2}", optional = true },
      { "cls.score.{s}", to = "cls_score.{s}", op = { "roll", 0, -1 }, optional = true },
      { "bbox.pred.{s}", to = "bbox_pred.{s}", op = { "slice", 0, 4 }, optional = true },
      { ".[mask].fcn{i}.{*}", to = "mask_head.mask_fcn{i}.{2}", optional = true },
      { "conv5.mask.{s}", to = "mask_head.deconv.{s}", optional = true },
      { "mask.fcn.logits.{s}", to = "mask_head.predictor.{s}", op = { "slice", 0, 1 }, optional = true },
      { "conv.fcn{i}.{s}", to = "roi_heads.keypoint_head.conv_fcn{i}.{s}", optional = true },
      { "kps.score.lowres.{s}", to = "roi_heads.keypoint_head.score_lowres.{s}", optional = true },
      { "kps.score.{s}", to = "roi_heads.keypoint_head.score.{s}", optional = true },
    },
  },
  expect = { forbid = { "{*}_momentum", "{*}.branch{*}", "fpn.{*}" } },
}
