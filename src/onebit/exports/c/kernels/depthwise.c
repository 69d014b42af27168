/* needs: window */
/* Each channel by its own taps. The bits lie as [plane][tap][words of channels]. */
static void depthwise(const struct window *v, const uint8_t *image, int32_t y, int32_t x, uint32_t sign, const uint32_t *w, int32_t planes,
                      int32_t plus_minus, int32_t *sums) {
    const int32_t words = (v->channels + 31) / 32;
    for (int32_t i = 0; i < planes * v->channels; ++i) sums[i] = 0;
    for (int32_t p = 0; p < planes; ++p, sums += v->channels) {
        for (int32_t r = 0; r < v->kernel_h; ++r) {
            const int32_t row = y * v->stride_h - v->top + r * v->dilation_h;
            for (int32_t c = 0; c < v->kernel_w; ++c, w += words) {
                const int32_t column = x * v->stride_w - v->left + c * v->dilation_w;
                if (row < 0 || row >= v->height || column < 0 || column >= v->width) continue;
                const uint8_t *from = image + (row * v->width + column) * v->channels;
                for (int32_t i = 0; i < v->channels; ++i) {
                    const int32_t q = (int32_t)(((uint32_t)from[i] ^ sign) - sign);
                    const int32_t one = (int32_t)(w[i >> 5] >> (i & 31) & 1u);
                    sums[i] += one ? q : (plus_minus ? -q : 0);
                }
            }
        }
    }
}
