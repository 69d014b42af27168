/* Sums of every choice of four inputs. A weight of 4 bits then is one look-up. An input may be two numbers, b * 65536 + a: sums of up to 128 bytes
   of each stay apart, since they fit in 16 bits. */
static void table_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t *t) {
    const uint32_t ab = a + b, cd = c + d;
    t[0] = 0;
    t[1] = a;
    t[2] = b;
    t[3] = ab;
    t[4] = c;
    t[5] = a + c;
    t[6] = b + c;
    t[7] = ab + c;
    t[8] = d;
    t[9] = a + d;
    t[10] = b + d;
    t[11] = ab + d;
    t[12] = cd;
    t[13] = a + cd;
    t[14] = b + cd;
    t[15] = ab + cd;
}

/* The sum of the inputs whose bits are set, of groups of 4 bits. */
static uint32_t look_up(const uint32_t *w, int32_t groups, const uint32_t *t) {
    uint32_t sum = 0;
    for (; groups >= 8; groups -= 8, t += 8 * 16) {
        const uint32_t bits = *w++;
        sum += t[bits & 15u];
        sum += t[16 + (bits >> 4 & 15u)];
        sum += t[32 + (bits >> 8 & 15u)];
        sum += t[48 + (bits >> 12 & 15u)];
        sum += t[64 + (bits >> 16 & 15u)];
        sum += t[80 + (bits >> 20 & 15u)];
        sum += t[96 + (bits >> 24 & 15u)];
        sum += t[112 + (bits >> 28)];
    }
    if (groups > 0) {
        uint32_t bits = *w;
        for (; groups > 0; --groups, t += 16, bits >>= 4) sum += t[bits & 15u];
    }
    return sum;
}

/* The sum of all inputs. */
static uint32_t total_of(const uint32_t *t, int32_t groups) {
    uint32_t sum = 0;
    for (; groups > 0; --groups, t += 16) sum += t[15];
    return sum;
}
