/* needs: gather table levels clear */
/* The windows of two outputs, at positions (y, x) of `at`, times bits: sums[2 * rows]. The bits lie as [group][chunk of 128 inputs][plane][row of a
   group][words]. */
static void conv_pair(const struct window *v, const uint8_t *image, const int32_t *at, uint32_t sign, const uint32_t *w, int32_t outputs,
                      int32_t planes, int32_t plus_minus, uint32_t *table, uint8_t *bytes, int32_t *sums) {
    const int32_t inputs = v->kernel_h * v->kernel_w * v->of_group, of_group = outputs / v->groups, rows = planes * outputs;
    const int32_t padded = (inputs + 3) / 4 * 4;
    const uint32_t both = sign | sign << 16;
    uint8_t *const other = bytes + padded;
    clear(bytes, 2 * padded);
    for (int32_t i = 0; i < 2 * rows; ++i) sums[i] = 0;
    for (int32_t g = 0; g < v->groups; ++g) {
        int32_t total = 0, second_total = 0;
        gather(v, image, at[0], at[1], g * v->of_group, bytes);
        gather(v, image, at[2], at[3], g * v->of_group, other);
        for (int32_t first = 0; first < inputs; first += 128) {
            const int32_t here = inputs - first < 128 ? inputs - first : 128, groups = (here + 3) / 4, words = (here + 31) / 32;
            const uint8_t *a = bytes + first, *b = other + first;
            uint32_t *t = table;
            for (int32_t i = 0; i < groups; ++i, a += 4, b += 4, t += 16) {
                const uint32_t k = ((uint32_t)a[0] | (uint32_t)b[0] << 16) ^ both, l = ((uint32_t)a[1] | (uint32_t)b[1] << 16) ^ both;
                const uint32_t m = ((uint32_t)a[2] | (uint32_t)b[2] << 16) ^ both, n = ((uint32_t)a[3] | (uint32_t)b[3] << 16) ^ both;
                table_of(k - both, l - both, m - both, n - both, t);
            }
            if (plus_minus) {
                const uint32_t sum = total_of(table, groups);
                const int32_t low = (int16_t)(sum & 0xFFFFu);
                total += low;
                second_total += (int16_t)((sum - (uint32_t)low) >> 16);
            }
            for (int32_t p = 0; p < planes; ++p) {
                int32_t *to = sums + p * outputs + g * of_group;
                for (int32_t o = 0; o < of_group; ++o, w += words) {
                    const uint32_t sum = look_up(w, groups, table);
                    const int32_t low = (int16_t)(sum & 0xFFFFu);
                    to[o] += low;
                    to[rows + o] += (int16_t)((sum - (uint32_t)low) >> 16);
                }
            }
        }
        for (int32_t p = 0; p < planes && plus_minus; ++p) {
            int32_t *to = sums + p * outputs + g * of_group;
            for (int32_t o = 0; o < of_group; ++o) {
                to[o] = 2 * to[o] - total;
                to[rows + o] = 2 * to[rows + o] - second_total;
            }
        }
    }
}
