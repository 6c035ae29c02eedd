/* The update of `ObservationNormalizer`, with NumPy's roundings: no operation is fused or reordered.

   N samples x of `width` entries, of which the first `scaled` ones have statistics:

       δ = x − m,   m' = m + w mean(δ),   v' = v + w [mean(δ (x − m')) − v],
       y = (x − m') / √(v' + ε), within ±clip;   further entries y = x.                          */

#include <cmath>

#define EPSILON 1e-8

extern "C" void hesrl_normalize(const double *x, long n, long width, long scaled, double *mean,
                                double *var, double weight, float clip, float *y)
{
    for (long j = 0; j < scaled; j++) {
        double sum = x[j] - mean[j];
        for (long i = 1; i < n; i++)
            sum += x[i * width + j] - mean[j];
        double next = mean[j] + sum / n * weight;
        sum = (x[j] - mean[j]) * (x[j] - next);
        for (long i = 1; i < n; i++)
            sum += (x[i * width + j] - mean[j]) * (x[i * width + j] - next);
        mean[j] = next;
        var[j] += (sum / n - var[j]) * weight;
        double std = std::sqrt(var[j] + EPSILON);
        for (long i = 0; i < n; i++) {
            float value = (float)((x[i * width + j] - next) / std);
            y[i * width + j] = value > clip ? clip : value < -clip ? -clip : value;
        }
    }
    for (long j = scaled; j < width; j++)
        for (long i = 0; i < n; i++)
            y[i * width + j] = (float)x[i * width + j];
}
