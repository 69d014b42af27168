/* needs: window */
static void average_window(const struct window *v, const float *image, int32_t y, int32_t x, int32_t counts_padding, float *row) {
    const int32_t n = v->channels;
    for (int32_t i = 0; i < n; ++i) {
        int32_t inside = 0;
        float sum = 0.0f;
        double precise = 0.0;
        for (int32_t r = 0; r < v->kernel_h; ++r) {
            const int32_t line = y * v->stride_h - v->top + r;
            for (int32_t c = 0; c < v->kernel_w; ++c) {
                const int32_t column = x * v->stride_w - v->left + c;
                if (line < 0 || line >= v->height || column < 0 || column >= v->width) continue;
                const float one = image[(line * v->width + column) * n + i];
                sum = sum + one;
                precise += (double)one;
                ++inside;
            }
        }
        const int32_t count = counts_padding ? v->kernel_h * v->kernel_w : inside;
        row[i] = sum * (1.0f / (float)count);
        /* A sum of floats may be infinite although the mean is finite. */
        if (row[i] - row[i] != 0.0f) row[i] = (float)(precise / (double)count);
    }
}
