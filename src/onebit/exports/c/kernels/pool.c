/* needs: window */
/* The places of a window at output (y, x): the maximum, or the sum over all in the order of the image. */
static void max_window(const struct window *v, const float *image, int32_t y, int32_t x, float *row) {
    const int32_t n = v->channels;
    for (int32_t i = 0; i < n; ++i) row[i] = -HUGE_VALF;
    for (int32_t r = 0; r < v->kernel_h; ++r) {
        const int32_t line = y * v->stride_h - v->top + r;
        for (int32_t c = 0; c < v->kernel_w; ++c) {
            const int32_t column = x * v->stride_w - v->left + c;
            if (line < 0 || line >= v->height || column < 0 || column >= v->width) continue;
            const float *from = image + (line * v->width + column) * n;
            for (int32_t i = 0; i < n; ++i) row[i] = from[i] > row[i] || from[i] != from[i] ? from[i] : row[i];
        }
    }
}
