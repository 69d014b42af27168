/* needs: window count_masked clear */
static void append_bits(const uint8_t *from, int32_t first, int32_t n, uint8_t *to, int32_t at) {
    if (((first | at | n) & 7) == 0) {
        memcpy(to + at / 8, from + first / 8, (size_t)(n / 8));
        return;
    }
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t bit = (uint32_t)from[(first + i) >> 3] >> ((first + i) & 7) & 1u;
        to[(at + i) >> 3] = (uint8_t)(to[(at + i) >> 3] | bit << ((at + i) & 7));
    }
}

/* The window at output (y, x) of an image of signs, times bits: [group][plane][row of a group][words]. Places outside of the image add nothing. */
static void conv_signs(const struct window *v, const uint8_t *image, int32_t y, int32_t x, const uint32_t *w, int32_t outputs, int32_t planes,
                       int32_t plus_minus, uint32_t *bits, int32_t *sums) {
    const int32_t n = v->of_group, inputs = v->kernel_h * v->kernel_w * n, words = (inputs + 31) / 32, pixel = (v->channels + 7) / 8;
    const int32_t of_group = outputs / v->groups;
    uint32_t *const mask = bits + words;
    for (int32_t g = 0; g < v->groups; ++g) {
        int32_t inside = 0, at = 0;
        clear((uint8_t *)bits, 8 * words);
        for (int32_t r = 0; r < v->kernel_h; ++r) {
            const int32_t row = y * v->stride_h - v->top + r * v->dilation_h;
            for (int32_t c = 0; c < v->kernel_w; ++c, at += n) {
                const int32_t column = x * v->stride_w - v->left + c * v->dilation_w;
                if (row < 0 || row >= v->height || column < 0 || column >= v->width) continue;
                append_bits(image + (row * v->width + column) * pixel, g * n, n, (uint8_t *)bits, at);
                inside += n;
            }
        }
        if (inside < inputs) {
            at = 0;
            for (int32_t r = 0; r < v->kernel_h; ++r) {
                const int32_t row = y * v->stride_h - v->top + r * v->dilation_h;
                for (int32_t c = 0; c < v->kernel_w; ++c, at += n) {
                    const int32_t column = x * v->stride_w - v->left + c * v->dilation_w;
                    if (row < 0 || row >= v->height || column < 0 || column >= v->width) continue;
                    for (int32_t i = at; i < at + n; ++i) mask[i >> 5] |= 1u << (i & 31);
                }
            }
        }
        const int32_t signs = plus_minus ? 0 : 2 * set_in(bits, words) - inside;
        for (int32_t p = 0; p < planes; ++p) {
            int32_t *to = sums + p * outputs + g * of_group;
            for (int32_t o = 0; o < of_group; ++o, w += words) {
                const int32_t sum = inside - 2 * (inside < inputs ? differing_within(w, bits, mask, words) : differing(w, bits, words));
                to[o] = plus_minus ? sum : (sum + signs) / 2;
            }
        }
    }
}
