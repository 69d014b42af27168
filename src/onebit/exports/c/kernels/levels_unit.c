/* needs: levels */
/* 0 .. top of the numbers from 0 to 1. */
static void levels_unit(struct levels *q, float top) {
    take_levels(q, 0.0f, top, 1.0f / top, top, 1);
}
