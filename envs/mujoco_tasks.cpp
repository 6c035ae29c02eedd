/* Steps of N simulations of a MuJoCo task: actions, physics, observations, rewards, statistics.

   What a task observes and rewards is told by the tables of `Envs`, which mujoco_tasks.py fills in.
   The equations are those of Gymnasium's classes, in their order of operations, and sums are NumPy's,
   so that every bit is equal:

       r = w_f (x' − x)/dt + healthy r_h − (w_a Σ a² + w_c Σ f²)                                   */

static inline double clipped(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;  // NaN stays
}

/* NumPy's sum of the squares of n entries: eight sums, of halves where there are more than 128. */
template <typename T> static T sum_of_squares(const T *x, long n)
{
    if (n > 128) {
        long half = n / 2 - n / 2 % 8;
        return sum_of_squares(x, half) + sum_of_squares(x + half, n - half);
    }
    T sum = 0;
    long i = 0;
    if (n >= 8) {
        T r[8];
        for (long k = 0; k < 8; k++)
            r[k] = x[k] * x[k];
        for (i = 8; i + 8 <= n; i += 8)
            for (long k = 0; k < 8; k++)
                r[k] += x[i + k] * x[i + k];
        sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    }
    for (; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

/* Where a body is along x: a number of MuJoCo's, or the mean of all bodies by their mass. */
static double position(const Envs *e, long i)
{
    const double *x = e->x + i * e->x_stride;
    if (!e->mass)
        return *x;
    double sum = 0;
    for (long b = 0; b < e->bodies; b++)
        sum += e->mass[b] * x[3 * b];
    return sum / e->total_mass;
}

/* What simulation i has come to: its observation, its reward, and whether it is healthy. */
static bool outcome(Envs *e, long i, const float *action, double *reward)
{
    double *raw = e->raw + i * e->width;
    for (const Part *p = e->observed; p < e->observed + e->observed_parts; p++)
        for (long j = 0; j < p->size; j++)
            *raw++ = clipped(p->numbers[i * p->stride + j], p->low, p->high);
    bool healthy = true;
    for (const Part *p = e->bounded; p < e->bounded + e->bounded_parts; p++)
        for (long j = 0; j < p->size; j++) {
            double x = p->numbers[i * p->stride + j];
            healthy &= p->is_open ? p->low < x && x < p->high : p->low <= x && x <= p->high;
        }
    const double *ctrl = e->ctrl + i * e->ctrl_stride;
    double control = 0, contact = 0;
    if (e->costs_of_ctrl)
        control = e->control_weight * sum_of_squares(ctrl, e->act_dim);
    else
        control = (float)e->control_weight * sum_of_squares(action, e->act_dim);
    if (e->forces) {
        for (long j = 0; j < e->number_of_forces; j++)
            e->scratch[j] = clipped(e->forces[i * e->number_of_forces + j], e->least_force, e->most_force);
        contact = e->contact_weight * sum_of_squares(e->scratch, e->number_of_forces);
        contact = clipped(contact, e->least_cost, e->most_cost);
    }
    if (e->is_height) {
        *reward = e->x[i * e->x_stride] / e->dt - control - contact + 1;
        return healthy;
    }
    double x = position(e, i);
    *reward = e->forward_weight * ((x - e->last_x[i]) / e->dt) + healthy * e->healthy_reward
              - (control + contact);
    e->last_x[i] = x;
    return healthy;
}

/* The update of `RewardNormalizer`, with the roundings of Python's numbers. */
static void normalize_rewards(Envs *e, float *out)
{
    double sum_delta = 0, sum_squares = 0, *statistics = e->reward_statistics;
    for (long i = 0; i < e->n; i++) {
        double &value = e->discounted[i];
        value = e->rewards[i] + (e->terminated[i] ? 0.0 : e->gamma * value);
        double delta = value - statistics[0];
        sum_delta += delta;
        sum_squares += delta * delta;
    }
    statistics[2] += e->n;
    double weight = e->n / statistics[2], change = sum_delta / e->n * weight;
    statistics[0] += change;
    statistics[1] += ((sum_squares - sum_delta * change) / e->n - statistics[1]) * weight;
    double std = std::sqrt(statistics[1] + EPSILON), limit = e->reward_clip * std;
    for (long i = 0; i < e->n; i++) {
        double r = e->rewards[i];
        out[i] = r > limit ? e->reward_clip : r < -limit ? -e->reward_clip : r / std;
    }
}

/* Physics, by MuJoCo's functions for batches: not 0 where MuJoCo could not step. */
static int simulate(Envs *e)
{
    auto step = (int (*)(void *, const int *, int, int, int))e->step;
    auto apply = (int (*)(void *, const int *, int, void *, void *, int))e->apply;
    auto forward = (int (*)(void *, const int *, int, int))e->forward;
    int failed = step(e->batch, 0, 0, e->substeps, 0);
    if (e->contact_forces) {
        failed = failed || apply(e->batch, 0, 0, e->contact_forces, 0, 0);
        failed = failed || forward(e->batch, 0, 0, 0);  // brings the fields up to date
    }
    return failed;
}

enum { GOES_ON, ENDED, FAILED, NOT_FINITE, NO_ACTION };

/* One step: from actions (n, act_dim) to the observations (n, width) and rewards (n,) to learn from. */
static int one_step(Envs *e, const float *actions, float *obs, float *rewards)
{
    const long n = e->n, act_dim = e->act_dim;
    for (long i = 0; i < n; i++)
        for (long j = 0; j < act_dim; j++) {
            float a = actions[i * act_dim + j], low = e->low[j], high = e->high[j];
            if (a != a)
                return NO_ACTION;
            a = a < low ? low : a > high ? high : a;
            e->clipped[i * act_dim + j] = a;
            e->ctrl[i * e->ctrl_stride + j] = a;
        }
    for (long i = 0; i < n; i++)
        e->lengths[i]++;
    if (simulate(e))
        return FAILED;
    bool ended = false;
    double squares = 0;
    for (long i = 0; i < n; i++) {
        bool healthy = outcome(e, i, e->clipped + i * act_dim, e->rewards + i);
        e->elapsed[i]++;
        if (e->has_progress)
            e->raw[(i + 1) * e->width - 1] = e->elapsed[i] / e->time_limit - 0.5;
        e->terminated[i] = e->ends_unhealthy && !healthy;
        e->truncated[i] = !e->terminated[i] && e->elapsed[i] >= e->time_limit;
        ended |= e->terminated[i] || e->truncated[i];
        e->returns[i] += e->rewards[i];
        squares += e->rewards[i] * e->rewards[i];
    }
    for (long j = 0; j < n * e->width; j++)
        squares += e->raw[j] * e->raw[j];
    if (!(squares < e->square_limit))
        return NOT_FINITE;
    if (e->mean) {
        *e->count += n;
        hesrl_normalize(e->raw, n, e->width, e->scaled, e->mean, e->var, n / *e->count, e->obs_clip, obs);
    } else {
        for (long j = 0; j < n * e->width; j++)
            obs[j] = (float)e->raw[j];
    }
    if (e->reward_statistics)
        normalize_rewards(e, rewards);
    else
        for (long i = 0; i < n; i++)
            rewards[i] = (float)e->rewards[i];
    return ended ? ENDED : GOES_ON;
}

/* Steps until an episode ends, at most `steps`: actions are given, or drawn by an actor from
   observations obs (steps + 1, n, width), the first of which is given, and noise
   (steps, n, act_dim). Returns how many steps were taken; e->status says how the last one went. */
extern "C" long hesrl_steps(Envs *e, const Actor *actor, long steps, float *obs, float *actions,
                            float *noise, float *rewards)
{
    const long wide = e->n * e->act_dim;
    e->status = GOES_ON;
    for (long t = 0; t < steps; t++) {
        float *next = obs + e->n * e->width;
        if (actor) {
            actor->arguments[actor->obs] = obs;
            actor->arguments[actor->noise] = noise + t * wide;
            actor->arguments[actor->actions] = actions + t * wide;
            ((int (*)(int, void **, void *))actor->act)(0, actor->arguments, actor->memory);
        }
        e->status = one_step(e, actions + t * wide, next, rewards + t * e->n);
        if (e->status != GOES_ON)
            return t + (e->status == ENDED);
        obs = next;
    }
    return steps;
}
