// hnswlib_time.cpp -- what search_time.c is to navmap, for hnswlib: one query a call, from C++.
//
//     hnswlib_time INDEX SPACE QUERIES.npy COUNTER
//
// compare.py compiles it, with hnswlib's own headers and for the processor it runs on, and speaks to
// it: "EF K THREADS single|batch SECONDS" on standard input is answered by a line of JSON.  The call
// is hnswlib's searchKnn, which returns a queue; as any caller has to, labels and distances are
// taken out of it.  With cosine, queries are normalised within the time, as its Python module and
// navmap do.  COUNTER 1 counts distances, by a wrapper that costs time: then no times are of use.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "hnswlib/hnswlib.h"

namespace
{

using Clock = std::chrono::steady_clock;

std::vector<float> read_npy(const char *path, size_t &rows, size_t &dim)
{
    std::FILE *f = std::fopen(path, "rb");
    unsigned char head[10];
    if (!f || std::fread(head, 1, 10, f) != 10 || std::memcmp(head, "\x93NUMPY\x01", 7) != 0)
        throw std::runtime_error("no .npy file of version 1");
    std::string text(head[8] | head[9] << 8, '\0');
    unsigned long long n = 0, d = 0;
    if (std::fread(&text[0], 1, text.size(), f) != text.size() ||
        text.find("'<f4'") == std::string::npos ||
        std::sscanf(text.c_str() + text.find("'shape'"), "'shape': (%llu, %llu)", &n, &d) != 2)
        throw std::runtime_error("no float32 of two dimensions");
    rows = n;
    dim = d;
    std::vector<float> data(rows * dim);
    if (std::fread(data.data(), sizeof(float) * dim, rows, f) != rows)
        throw std::runtime_error("ends early");
    std::fclose(f);
    return data;
}

uint64_t counted;
hnswlib::DISTFUNC<float> inner;

float count(const void *a, const void *b, const void *of)
{
    counted++;
    return inner(a, b, of);
}

// The space with each distance counted.
class Counting : public hnswlib::SpaceInterface<float>
{
  public:
    explicit Counting(hnswlib::SpaceInterface<float> *of) : of_(of)
    {
        inner = of->get_dist_func();
    }
    size_t get_data_size() override
    {
        return of_->get_data_size();
    }
    hnswlib::DISTFUNC<float> get_dist_func() override
    {
        return count;
    }
    void *get_dist_func_param() override
    {
        return of_->get_dist_func_param();
    }

  private:
    hnswlib::SpaceInterface<float> *of_;
};

double cpu_seconds()
{
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double since(Clock::time_point start)
{
    return std::chrono::duration<double>(Clock::now() - start).count();
}

int run(char **argv)
{
    size_t rows, dim;
    const bool cosine = std::string(argv[2]) == "cosine";
    const std::vector<float> queries = read_npy(argv[3], rows, dim);
    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    if (std::string(argv[2]) == "l2")
        space.reset(new hnswlib::L2Space(dim));
    else
        space.reset(new hnswlib::InnerProductSpace(dim));
    Counting counting(space.get());
    const bool counts = std::atoi(argv[4]) != 0;
    hnswlib::SpaceInterface<float> *used = space.get();
    if (counts)
        used = &counting;
    hnswlib::HierarchicalNSW<float> index(used, argv[1]);

    std::vector<double> waits(rows);
    std::vector<float> unit(dim);
    char line[128], mode[16];
    while (std::fgets(line, sizeof line, stdin)) {
        unsigned ef, k, threads;
        double seconds;
        if (std::sscanf(line, "%u %u %u %15s %lf", &ef, &k, &threads, mode, &seconds) != 5) {
            std::printf("{\"error\": \"not EF K THREADS MODE SECONDS\"}\n");
            std::fflush(stdout);
            continue;
        }
        std::vector<uint64_t> labels(k);
        std::vector<float> distances(k);
        index.setEf(std::max(ef, k));
        index.metric_hops = 0;
        counted = 0;
        double passes = 0, taken;
        const double used_before = cpu_seconds();
        const auto start = Clock::now();
        do {
            auto before = Clock::now();
            for (size_t i = 0; i < rows; i++) {
                const float *query = queries.data() + i * dim;
                if (cosine) {
                    float sum = 0;
                    for (size_t j = 0; j < dim; j++)
                        sum += query[j] * query[j];
                    const float scale = 1.0f / (std::sqrt(sum) + 1e-30f);
                    for (size_t j = 0; j < dim; j++)
                        unit[j] = query[j] * scale;
                    query = unit.data();
                }
                auto found = index.searchKnn(query, k);
                for (size_t at = found.size(); at-- > 0; found.pop()) {
                    labels[at] = found.top().second;
                    distances[at] = found.top().first;
                }
                const auto after = Clock::now();
                waits[i] = std::chrono::duration<double>(after - before).count();
                before = after;
            }
            passes++;
            taken = since(start);
        } while (taken * (1 + 0.5 / passes) < seconds);
        const double used = cpu_seconds() - used_before;
        const double asked = passes * static_cast<double>(rows);
        std::sort(waits.begin(), waits.end());
        std::printf("{\"qps\": %.1f, \"qps_cpu\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f",
                    asked / taken, asked / used, 1e6 * waits[rows / 2],
                    1e6 * waits[rows * 99 / 100]);
        if (counts)
            std::printf(", \"distances\": %.2f", static_cast<double>(counted) / asked);
        std::printf("}\n");
        std::fflush(stdout);
    }
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 5) {
        std::fprintf(stderr, "usage: hnswlib_time INDEX SPACE QUERIES.npy COUNTER\n");
        return 2;
    }
    try {
        return run(argv);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
