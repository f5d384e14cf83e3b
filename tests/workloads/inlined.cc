// As inlined.c, in C++: templates, namespaces, a class and a lambda.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace shop {

template <typename T>
[[gnu::always_inline]] inline T innermost(T value) {
    value ^= value >> 15;
    return value * T(0xff51afd7ed558ccdULL);
}

class Basket {
public:
    explicit Basket(uint64_t seed) : seed_(seed) {}

    [[gnu::always_inline]] inline uint64_t middle(uint64_t rounds) const {
        uint64_t value = seed_;
        for (uint64_t round = 0; round < rounds; round++) {
            value = innermost<uint64_t>(value + round);
        }
        return value;
    }

    [[gnu::noinline]] uint64_t total(const std::vector<uint64_t> &prices) const {
        uint64_t sum = 0;
        std::for_each(prices.begin(), prices.end(), [&](uint64_t price) {
            sum += middle(price & 7) + innermost<uint32_t>(static_cast<uint32_t>(price));
        });
        return sum;
    }

private:
    uint64_t seed_;
};

}  // namespace shop

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], nullptr, 0) : 7;
    std::vector<uint64_t> prices;
    for (uint64_t step = 0; step < 100; step++) {
        prices.push_back(step * seed);
    }
    std::sort(prices.begin(), prices.end(), [](uint64_t a, uint64_t b) { return a > b; });
    printf("%llu\n", (unsigned long long)shop::Basket(seed).total(prices));
    return 0;
}
