/* needs: window mean_magnitude */
static float magnitude_window(const struct window *v, const float *image, int32_t y, int32_t x) {
    double sum = 0.0;
    for (int32_t r = 0; r < v->kernel_h; ++r) {
        const int32_t line = y * v->stride_h - v->top + r * v->dilation_h;
        for (int32_t c = 0; c < v->kernel_w; ++c) {
            const int32_t column = x * v->stride_w - v->left + c * v->dilation_w;
            if (line < 0 || line >= v->height || column < 0 || column >= v->width) continue;
            sum += (double)mean_magnitude(image + (line * v->width + column) * v->channels, v->channels);
        }
    }
    return (float)(sum / (double)(v->kernel_h * v->kernel_w));
}
