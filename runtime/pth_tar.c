#include "pth_tar.h"
bool ckpt_tar_is(const ckpt_mapping *map) { return ckpt_mapping_size(map) >= 262 && memcmp(ckpt_mapping_data(map) + 257, "ustar", 5) == 0; }
ckpt_status ckpt_tar_read(ckpt_document **out, ckpt_mapping *map, ckpt_error *err) { (void)out,(void)map; return ckpt_fail(err, CKPT_E_UNSUPPORTED, 0, "tar"); }
