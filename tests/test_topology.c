/*
 * tests/test_topology.c - base/topology.h and coordinator/placement.h: described machines
 * of every shape, this one, and the limits of cgroups.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/topology.h"
#include "coordinator/placement.h"

static struct cllm_topology topology;

static void machines_of_every_shape_are_counted(void **state)
{
    static const struct {
        const char *machine;
        uint32_t cores, cpus, nodes, caches;
    } cases[] = {
        {"core:1 pu:1", 1, 1, 1, 1},
        {"core:1 pu:2", 1, 2, 1, 1},
        {"core:2 pu:1", 2, 2, 1, 1},
        {"pu:3", 3, 3, 1, 1}, /* no cores are told: CPUs count */
        {"l3:2 core:6 pu:1", 12, 12, 1, 2},
        {"node:2 l3:2 core:3 pu:2", 12, 24, 2, 4},
        {"package:2 node:1 l3:8 core:8 pu:2", 128, 256, 2, 16},
        {"node:8 core:64 pu:1", 512, 512, 8, 8}, /* more than are told one by one */
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        cllm_topology_find(&topology, cases[i].machine);
        assert_false(topology.guessed);
        assert_false(topology.real);
        assert_int_equal(topology.n_cores, cases[i].cores);
        assert_int_equal(topology.n_cpus, cases[i].cpus);
        assert_int_equal(topology.n_nodes, cases[i].nodes);
        assert_int_equal(topology.n_caches, cases[i].caches);
        assert_int_equal(topology.n, cllm_min_u64(cases[i].cores, CLLM_TOPOLOGY_CORES));
        assert_int_equal(cllm_topology_workers(&topology), cases[i].cores);
    }
}

static void no_core_is_given_twice(void **state)
{
    static const char *const machines[] = {"core:12 pu:2", "node:4 l3:4 core:8 pu:2",
                                           "node:8 core:64 pu:1"};
    static bool taken[4096];

    (void)state;
    for (size_t m = 0; m < CLLM_LEN(machines); m++) {
        uint32_t threads = strstr(machines[m], "pu:2") ? 2 : 1;

        cllm_topology_find(&topology, machines[m]);
        memset(taken, 0, sizeof taken);
        for (uint32_t i = 0; i < topology.n; i++) {
            uint32_t core = topology.core[i].cpu / threads;

            assert_true(core < CLLM_LEN(taken));
            assert_false(taken[core]);
            taken[core] = true;
        }
    }
}

static void workers_go_round_the_nodes_and_their_caches(void **state)
{
    uint32_t per_node[2] = {0}, per_cache[4] = {0};

    (void)state;
    cllm_topology_find(&topology, "node:2 l3:2 core:3 pu:2");
    for (uint32_t i = 0; i < topology.n; i++) {
        assert_int_equal(topology.core[i].node, i % 2);
        per_node[topology.core[i].node]++;
        per_cache[topology.core[i].cache]++;
        /* After every whole round all have the same number. */
        if (i % 4 == 3)
            for (uint32_t c = 0; c < 4; c++)
                assert_int_equal(per_cache[c], i / 4 + 1);
    }
    assert_int_equal(per_node[0], 6);
    assert_int_equal(per_node[1], 6);
}

static void a_description_that_is_nonsense_becomes_a_guess(void **state)
{
    (void)state;
    cllm_topology_find(&topology, "core:many pu:?");
    assert_true(topology.guessed);
    assert_true(topology.n_cores >= 1);
}

static void this_machine_has_no_core_that_may_not_be_used(void **state)
{
    cpu_set_t before, one, set;
    uint32_t cpu = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    cllm_topology_find(&topology, NULL);
    assert_true(topology.real);
    assert_true(topology.n_cores <= (uint32_t)CPU_COUNT(&before));
    assert_int_equal(topology.n_cpus, CPU_COUNT(&before));
    for (uint32_t i = 0; i < topology.n; i++)
        assert_true(CPU_ISSET(topology.core[i].cpu, &before));
    /* Asking moved nobody. */
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_true(CPU_EQUAL(&set, &before));

    /* The last CPU alone is left to this process. */
    for (uint32_t c = 0; c < CPU_SETSIZE; c++)
        cpu = CPU_ISSET(c, &before) ? c : cpu;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    cllm_topology_find(&topology, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(topology.n_cores, 1);
    assert_int_equal(topology.core[0].cpu, cpu);
}

static void it_is_said_in_words(void **state)
{
    char text[CLLM_TOPOLOGY_TEXT];

    (void)state;
    cllm_topology_find(&topology, "core:1 pu:1");
    assert_non_null(strstr(cllm_topology_text(text, &topology),
                           "1 core, 1 logical CPU, 1 NUMA node, 1 last-level cache"));
    cllm_topology_find(&topology, "node:2 core:2 pu:2");
    topology.quota = 3;
    assert_non_null(strstr(cllm_topology_text(text, &topology), "cgroup: 3"));
    assert_string_equal(cllm_topology_cpus(text, &topology, 4), "0 4 2 6");
    assert_string_equal(cllm_topology_cpus(text, &topology, 1), "0");
    assert_int_equal(cllm_topology_workers(&topology), 3);
    cllm_topology_find(&topology, "node:8 core:64 pu:1");
    (void)cllm_topology_cpus(text, &topology, topology.n);
    assert_string_equal(text + strlen(text) - 4, " ...");
}

/* ---- cgroups ---- */

static char root[64];

static void put(const char *name, const char *text)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void make(const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static uint32_t quota_of(const char *list)
{
    char path[256];

    put("list", list);
    (void)snprintf(path, sizeof path, "%s/list", root);
    return cllm_topology_quota(path, root);
}

static void limits_of_cgroups_count_the_least_one_above(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(root, sizeof root, "%s/cllm-cgroup.XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(root));
    make("a");
    make("a/b");
    make("cpu");
    make("cpu/c");
    put("cpu.max", "max 100000\n");
    put("a/cpu.max", "250000 100000\n");
    put("a/b/cpu.max", "400000 100000\n");
    put("cpu/c/cpu.cfs_quota_us", "150000\n");
    put("cpu/c/cpu.cfs_period_us", "100000\n");
    put("cpu/cpu.cfs_quota_us", "-1\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota_of("0::/\n"), 0);
    assert_int_equal(quota_of("0::/a\n"), 3);
    assert_int_equal(quota_of("0::/a/b\n"), 3);
    assert_int_equal(quota_of("0::/gone/away\n"), 0);
    assert_int_equal(quota_of("5:cpuset:/c\n4:cpuacct,cpu:/c\n"), 2);
    assert_int_equal(quota_of("4:cpuset,cpuacct:/c\n0::/\n"), 0);
    assert_int_equal(quota_of("4:cpu:/\n"), 0);
    assert_int_equal(quota_of("4:cpu:/c\n0::/a\n"), 2);
    put("a/cpu.max", "rubbish\n");
    assert_int_equal(quota_of("0::/a\n"), 0);
    assert_int_equal(quota_of("no colon\n:\n::\n"), 0);
    assert_int_equal(cllm_topology_quota("/no/such/list", root), 0);
    (void)snprintf(command, sizeof command, "rm -r '%s'", root);
    assert_int_equal(system(command), 0);
}

/* ---- placement ---- */

static void place(struct cllm_placement *placement, const char *machine,
                  enum cllm_config_pin pin, uint32_t threads)
{
    *placement = (struct cllm_placement){.pin = pin, .known = true, .threads = threads};
    cllm_topology_find(&placement->topology, machine);
    placement->topology.real = true;
}

/* The CPUs of the worker in @slot, "0 2"; "" = all. */
static const char *cpus_of(const struct cllm_placement *placement, uint32_t slot,
                           uint32_t workers)
{
    static char text[256];
    cpu_set_t set;
    size_t used = 0;

    text[0] = '\0';
    if (!cllm_placement_cpus(placement, slot, workers, &set))
        return text;
    for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set))
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%u",
                                     used > 0 ? " " : "", cpu);
    return text;
}

static void auto_pins_on_several_nodes_while_every_worker_has_a_core(void **state)
{
    static struct cllm_placement placement;

    (void)state;
    place(&placement, "core:12 pu:2", CLLM_PIN_AUTO, 1);
    assert_string_equal(cpus_of(&placement, 0, 12), ""); /* one node */
    place(&placement, "node:2 core:6 pu:2", CLLM_PIN_AUTO, 1);
    for (uint32_t slot = 0; slot < 12; slot++) {
        unsigned long cpu = strtoul(cpus_of(&placement, slot, 12), NULL, 10);

        assert_int_equal(strspn(cpus_of(&placement, slot, 12), "0123456789"),
                         strlen(cpus_of(&placement, slot, 12))); /* one */
        assert_int_equal(cpu % 2, 0);         /* never two on the threads of one core */
        assert_int_equal(cpu / 12, slot % 2); /* and round the nodes */
    }
    assert_string_equal(cpus_of(&placement, 12, 12), ""); /* a spare */
    assert_string_equal(cpus_of(&placement, 0, 13), "");
    assert_string_equal(cpus_of(&placement, 12, 13), "");
    assert_int_equal(cllm_placement_workers(&placement), 12);
}

static void yes_shares_cores_evenly_and_no_never_pins(void **state)
{
    static struct cllm_placement placement;

    (void)state;
    place(&placement, "core:2 pu:1", CLLM_PIN_YES, 1);
    for (uint32_t slot = 0; slot < 5; slot++)
        assert_string_equal(cpus_of(&placement, slot, 5), slot % 2 ? "1" : "0");
    place(&placement, "core:2 pu:1", CLLM_PIN_NO, 1);
    assert_string_equal(cpus_of(&placement, 0, 1), "");
}

static void a_described_machine_pins_nobody(void **state)
{
    static struct cllm_placement placement;

    (void)state;
    place(&placement, "core:2 pu:1", CLLM_PIN_YES, 1);
    placement.topology.real = false;
    assert_string_equal(cpus_of(&placement, 0, 1), "");
}

static void threads_of_a_worker_get_neighbouring_cores(void **state)
{
    static struct cllm_placement placement;
    static const struct {
        const char *machine;
        uint32_t threads, workers; /* auto */
        const char *cpus[4];       /* of the first workers */
        enum cllm_config_pin pin;
    } row[] = {
        {"node:2 core:6 pu:2", 2, 6, {"0 2", "12 14", "4 6", "16 18"}, CLLM_PIN_AUTO},
        {"node:2 core:6 pu:2", 4, 3, {"0 2 4 6", "12 14 16 18", "0 2 4 6"}, CLLM_PIN_YES},
        {"node:2 core:6 pu:2", 4, 3, {"", "", ""}, CLLM_PIN_AUTO}, /* two groups */
        {"node:2 l3:2 core:2 pu:1", 2, 4, {"0 1", "4 5", "2 3", "6 7"}, CLLM_PIN_AUTO},
        {"node:4 core:2 pu:1", 4, 2, {"0 1 2 3", "4 5 6 7"}, CLLM_PIN_AUTO},
        {"core:6 pu:1", 4, 1, {"0 1 2 3"}, CLLM_PIN_YES},
        {"core:2 pu:1", 3, 1, {"0 1"}, CLLM_PIN_YES}, /* not so many */
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        place(&placement, row[i].machine, row[i].pin, row[i].threads);
        assert_int_equal(cllm_placement_workers(&placement), row[i].workers);
        for (uint32_t slot = 0; slot < 4 && slot < row[i].workers; slot++)
            assert_string_equal(cpus_of(&placement, slot, row[i].workers),
                                row[i].cpus[slot]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_of_every_shape_are_counted),
        cmocka_unit_test(no_core_is_given_twice),
        cmocka_unit_test(workers_go_round_the_nodes_and_their_caches),
        cmocka_unit_test(a_description_that_is_nonsense_becomes_a_guess),
        cmocka_unit_test(this_machine_has_no_core_that_may_not_be_used),
        cmocka_unit_test(it_is_said_in_words),
        cmocka_unit_test(limits_of_cgroups_count_the_least_one_above),
        cmocka_unit_test(auto_pins_on_several_nodes_while_every_worker_has_a_core),
        cmocka_unit_test(yes_shares_cores_evenly_and_no_never_pins),
        cmocka_unit_test(a_described_machine_pins_nobody),
        cmocka_unit_test(threads_of_a_worker_get_neighbouring_cores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
