/* resource_test.c -- who speaks, told from an environment and files that the test makes. */

#include "resource.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a made-up machine ----------------------------------------------------------- */

static char               root[64];
static const char *const *environment; /* names and values in turn */
static struct ob_resource r;

static char *
env(const char *name)
{
    for (const char *const *p = environment; p != NULL && *p != NULL; p += 2)
        if (strcmp(*p, name) == 0)
            return (char *)(uintptr_t)p[1];
    return NULL;
}

static void
file(const char *path, const char *text)
{
    char name[256];
    int  fd;

    if (root[0] == '\0') {
        (void)snprintf(root, sizeof root, "%s/bulkhead_resource_XXXXXX", P_tmpdir);
        EXPECT(mkdtemp(root) != NULL);
    }
    (void)snprintf(name, sizeof name, "%s%s", root, path);
    for (char *p = name + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        (void)mkdir(name, 0700);
        *p = '/';
    }
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    EXPECT_EQ(close(fd), 0);
}

static void
look(void)
{
    char command[128];

    if (root[0] == '\0')
        file("/nothing", "");
    r.root = root;
    r.env = env;
    ob_resource_find(&r);
    (void)snprintf(command, sizeof command, "rm -r '%s'", root);
    EXPECT_EQ(system(command), 0);
}

static const char *
get(const char *key)
{
    for (size_t i = 0; i < r.count; i++)
        if (strcmp(r.list[i].key, key) == 0)
            return r.list[i].value;
    return NULL;
}

#define ENV(...) (environment = (const char *const[]){ __VA_ARGS__, NULL })

/* ---- tests ----------------------------------------------------------------------- */

TEST_PLAIN(resource, says_what_it_must_where_nothing_is_known)
{
    look();
    EXPECT_STR(get("service.name"), "unknown_service");
    EXPECT_STR(get("telemetry.sdk.name"), "bulkhead");
    EXPECT_STR(get("telemetry.sdk.language"), "c");
    EXPECT(strlen(get("service.instance.id")) == 36 && get("service.instance.id")[14] == '4');
    EXPECT_STR(get("os.type"), "linux");
    EXPECT(get("host.name")[0] != '\0' && get("host.arch")[0] != '\0');
    EXPECT_EQ(atoi(get("process.pid")), getpid());
    EXPECT(get("cloud.provider") == NULL && get("container.id") == NULL &&
           get("host.id") == NULL && r.problem == NULL);
    for (size_t i = 0; i + 1 < r.count; i++)
        EXPECT(strcmp(r.list[i].key, r.list[i + 1].key) < 0);
    for (size_t i = 0; i < r.count; i++)
        EXPECT_EQ(r.list[i].number, strstr(r.list[i].key, "pid") != NULL);
}

TEST_PLAIN(resource, environment_names_the_service)
{
    ENV("OTEL_RESOURCE_ATTRIBUTES",
        "service.name=other, service.version = 1.2 ,a=x%2Cy%3D%C3%A9,host.name=h,b=,a=second",
        "OTEL_SERVICE_NAME", "shop");
    look();
    EXPECT_STR(get("service.name"), "shop");
    EXPECT_STR(get("service.version"), "1.2");
    EXPECT_STR(get("a"), "x,y=\xc3\xa9");
    EXPECT_STR(get("b"), "");
    EXPECT_STR(get("host.name"), "h");
    EXPECT(r.problem == NULL);
}

TEST_PLAIN(resource, by_hand_wins_and_leaves_out)
{
    r.root = "";
    EXPECT_EQ(ob_resource_put(&r, "service.name", "mine"), 0);
    EXPECT_EQ(ob_resource_put(&r, "process.pid", NULL), 0);
    ENV("OTEL_SERVICE_NAME", "shop");
    look();
    EXPECT_STR(get("service.name"), "mine");
    EXPECT(get("process.pid") == NULL && get("process.parent_pid") != NULL);
}

static void
expect_unused(const char *list)
{
    memset(&r, 0, sizeof r);
    root[0] = '\0';
    ENV("OTEL_RESOURCE_ATTRIBUTES", list);
    look();
    EXPECT(r.problem != NULL);
    EXPECT(get("good") == NULL);
    EXPECT_STR(get("telemetry.sdk.language"), "c");
}

TEST_PLAIN(resource, malformed_list_counts_as_unset)
{
    static char long_list[40000] = "good=1,a=";

    expect_unused("good=1,bad");
    expect_unused("good=1,=x");
    expect_unused("good=1,a=%4");
    expect_unused("good=1,a=%zz");
    expect_unused("good=1,a=%00");
    expect_unused("good=1,,");
    memset(long_list + 9, 'x', sizeof long_list - 10);
    expect_unused(long_list);
    for (size_t i = 7; i + 8 < sizeof long_list; i += 6)
        (void)snprintf(long_list + i, 8, "%05zu=,", i);
    expect_unused(long_list);
}

TEST_PLAIN(resource, files_tell_the_machine)
{
    file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    file("/etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME='Debian "
                            "GNU/Linux'\nVERSION_ID=12\n");
    look();
    EXPECT_STR(get("host.id"), "0123456789abcdef0123456789abcdef");
    EXPECT_STR(get("os.name"), "Debian GNU/Linux");
    EXPECT_STR(get("os.version"), "12");
    EXPECT_STR(get("os.description"), "Debian GNU/Linux 12 (bookworm)");
}

#define ID "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809"

static const struct {
    const char *path, *text, *id;
} containers[] = {
    { "/proc/self/cgroup", "12:pids:/docker/" ID "\n0::/\n", ID },
    { "/proc/self/cgroup", "1:name=systemd:/kubepods/pod1/cri-containerd-" ID ".scope\n", ID },
    { "/proc/self/cgroup", "0::/system.slice/docker-" ID ".scope", ID },
    { "/proc/self/cgroup", "0::/" ID "0\n", NULL },
    { "/proc/self/cgroup", "0::/user.slice/session-1.scope\n", NULL },
    { "/proc/self/mountinfo",
      "1 2 0:3 / / rw - overlay o rw\n"
      "5 1 8:1 /var/lib/docker/containers/" ID
      "/hostname /etc/hostname rw - ext4 /dev/sda rw\n",
      ID },
    { "/proc/self/mountinfo",
      "1 2 0:3 / / rw - overlay o rw,lowerdir=/var/lib/docker/overlay2/" ID "/diff\n", NULL },
    { "/proc/self/mountinfo",
      "5 1 8:1 /run/containers/storage/overlay-containers/" ID "/userdata/x /x rw", ID },
};

TEST_PLAIN(resource, container_by_its_id)
{
    for (size_t i = 0; i < sizeof containers / sizeof containers[0]; i++) {
        memset(&r, 0, sizeof r);
        root[0] = '\0';
        file(containers[i].path, containers[i].text);
        look();
        EXPECT_STR(get("container.id"), containers[i].id);
    }
}

TEST_PLAIN(resource, pod_by_its_variables_and_file)
{
    ENV("KUBERNETES_SERVICE_HOST", "10.0.0.1", "HOSTNAME", "shop-7d4b9", "POD_UID", "u-1",
        "NODE_NAME", "n1");
    file("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "prod");
    look();
    EXPECT_STR(get("k8s.pod.name"), "shop-7d4b9");
    EXPECT_STR(get("k8s.pod.uid"), "u-1");
    EXPECT_STR(get("k8s.namespace.name"), "prod");
    EXPECT_STR(get("k8s.node.name"), "n1");
}

static const struct {
    const char *env[6];
    const char *path, *text;
    const char *provider, *platform, *region;
} machines[] = {
    { { "AWS_LAMBDA_FUNCTION_NAME", "f", "AWS_REGION", "eu-west-1" },
      NULL,
      NULL,
      "aws",
      "aws_lambda",
      "eu-west-1" },
    { { "ECS_CONTAINER_METADATA_URI_V4", "http://x", "AWS_REGION", "us-east-1" },
      NULL,
      NULL,
      "aws",
      "aws_ecs",
      "us-east-1" },
    { { "K_SERVICE", "s", "GOOGLE_CLOUD_REGION", "europe-west4" },
      NULL,
      NULL,
      "gcp",
      "gcp_cloud_run",
      "europe-west4" },
    { { "WEBSITE_SITE_NAME", "s", "REGION_NAME", "West Europe" },
      NULL,
      NULL,
      "azure",
      "azure.app_service",
      "West Europe" },
    { { "FC_FUNCTION_NAME", "f", "FC_REGION", "cn-hangzhou" },
      NULL,
      NULL,
      "alibaba_cloud",
      "alibaba_cloud_fc",
      "cn-hangzhou" },
    { { "ALIBABA_CLOUD_REGION_ID", "cn-shanghai" },
      "/sys/class/dmi/id/sys_vendor",
      "Alibaba Cloud\n",
      "alibaba_cloud",
      "alibaba_cloud_ecs",
      "cn-shanghai" },
    { { NULL }, "/sys/class/dmi/id/sys_vendor", "Amazon EC2\n", "aws", "aws_ec2", NULL },
    { { NULL },
      "/sys/class/dmi/id/product_name",
      "Google Compute Engine\n",
      "gcp",
      "gcp_compute_engine",
      NULL },
    { { NULL },
      "/sys/class/dmi/id/chassis_asset_tag",
      "7783-7084-3265-9085-8269-3286-77\n",
      "azure",
      "azure.vm",
      NULL },
    /* Microsoft makes more than Azure; a region of another cloud is a client's setting */
    { { NULL }, "/sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n", NULL, NULL, NULL },
    { { "AWS_REGION", "eu-west-1" },
      "/sys/class/dmi/id/sys_vendor",
      "Tencent Cloud\n",
      "tencent_cloud",
      "tencent_cloud_cvm",
      NULL },
    { { "AWS_REGION", "eu-west-1" }, NULL, NULL, "aws", NULL, "eu-west-1" },
    { { NULL },
      "/run/cloud-init/instance-data.json",
      "{\"ds\":{\"region\":\"wrong\"},\"v1\": {\"availability_zone\": \"eu-west-1a\",\n"
      "\"cloud_name\":\"aws\", \"instance_id\": \"i-0a1\", \"region\" : \"eu-west-1\"}}",
      "aws",
      "aws_ec2",
      "eu-west-1" },
    { { NULL },
      "/run/cloud-init/instance-data.json",
      "{\"v1\": {\"availability_zone\": null, \"cloud_name\": \"hetzner\", \"region\": "
      "\"fsn1\"}}",
      "hetzner",
      NULL,
      "fsn1" },
    { { NULL },
      "/run/cloud-init/instance-data.json",
      "{\"v1\": {\"cloud_name\": \"nocloud\"}}",
      NULL,
      NULL,
      NULL },
    { { NULL },
      "/run/cloud-init/instance-data.json",
      "{\"v1\": {\"cloud_name\": \"aw",
      NULL,
      NULL,
      NULL },
    { { NULL },
      "/run/cloud-init/instance-data.json",
      "{\"v1\": {\"cloud_name\"",
      NULL,
      NULL,
      NULL },
};

TEST_PLAIN(resource, cloud_by_variables_and_files)
{
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        memset(&r, 0, sizeof r);
        root[0] = '\0';
        environment = machines[i].env;
        if (machines[i].path != NULL)
            file(machines[i].path, machines[i].text);
        look();
        EXPECT_STR(get("cloud.provider"), machines[i].provider);
        EXPECT_STR(get("cloud.platform"), machines[i].platform);
        EXPECT_STR(get("cloud.region"), machines[i].region);
    }
}

TEST_PLAIN(resource, of_this_process_is_found_once)
{
    size_t                     count, again;
    const struct bh_attribute *list;

    EXPECT_EQ(bh_resource_set("service.name", "a"), 0);
    EXPECT_EQ(bh_resource_set("service.name", "b"), 0);
    EXPECT_EQ(bh_resource_set("", "b"), -EINVAL);
    EXPECT_EQ(bh_resource_set(NULL, "b"), -EINVAL);
    list = bh_resource(&count);
    EXPECT_STR(bh_resource_get("service.name"), "b");
    EXPECT_STR(bh_resource_get("process.executable.name"), "resource_test");
    EXPECT(bh_resource_get("none") == NULL);
    EXPECT_EQ(bh_resource_set("service.name", "c"), -EBUSY);
    EXPECT_EQ(bh_resource_set("service.name", NULL), -EBUSY);
    EXPECT_EQ(bh_resource_set("service.name", "b"), 0); /* which it is */
    EXPECT(bh_resource(&again) == list && again == count);
    EXPECT_STR(bh_resource_get("service.name"), "b");
}
