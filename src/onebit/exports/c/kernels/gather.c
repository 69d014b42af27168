/* needs: window clear */
/* The bytes of the window at output (y, x), of the channels from `channel` on; 0 where it leaves the image. */
static void gather(const struct window *v, const uint8_t *image, int32_t y, int32_t x, int32_t channel, uint8_t *to) {
    const int32_t n = v->of_group;
    for (int32_t r = 0; r < v->kernel_h; ++r) {
        const int32_t row = y * v->stride_h - v->top + r * v->dilation_h;
        const int32_t column = x * v->stride_w - v->left;
        if (row < 0 || row >= v->height) {
            clear(to, v->kernel_w * n);
            to += v->kernel_w * n;
            continue;
        }
        const uint8_t *from = image + row * v->width * v->channels + channel;
        if (v->dilation_w == 1 && v->groups == 1 && column >= 0 && column + v->kernel_w <= v->width) {
            memcpy(to, from + column * v->channels, (size_t)(v->kernel_w * n));
            to += v->kernel_w * n;
            continue;
        }
        for (int32_t c = 0; c < v->kernel_w; ++c, to += n) {
            const int32_t place = column + c * v->dilation_w;
            if (place < 0 || place >= v->width) {
                clear(to, n);
            } else {
                memcpy(to, from + place * v->channels, (size_t)n);
            }
        }
    }
}
