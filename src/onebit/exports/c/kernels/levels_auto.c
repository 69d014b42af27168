/* needs: levels range */
/* 8 bits: 0 .. 255 where nothing is below 0, else -127 .. 127. */
static void levels_auto(struct levels *q, const struct range *r) {
    float largest;
    memcpy(&largest, &r->largest, sizeof largest);
    const float high = r->negative ? 127.0f : 255.0f;
    const float scale = largest > 1e-30f ? largest / high : 1.0f;
    take_levels(q, r->negative ? -high : 0.0f, high, scale, largest > 1e-30f ? 1.0f / scale : 0.0f, r->largest < 0x7F800000u);
}
