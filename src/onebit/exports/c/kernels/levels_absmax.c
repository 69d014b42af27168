/* needs: levels range */
/* -high .. high, whatever the sign of the numbers. */
static void levels_absmax(struct levels *q, const struct range *r, float high) {
    float largest;
    memcpy(&largest, &r->largest, sizeof largest);
    const float most = largest > 1e-5f ? largest : 1e-5f;
    take_levels(q, -high, high, most / high, high / most, r->largest < 0x7F800000u);
}
