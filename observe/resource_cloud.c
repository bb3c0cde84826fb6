/*
 * resource_cloud.c -- the cloud, cluster and container a process runs in, as far as its environment
 * and files tell.
 *
 * From the special to the general, since the first of a key stays: platforms that run functions
 * and containers say so in variables; Kubernetes in variables of its manifests, and a file;
 * cloud-init leaves what the cloud told it; and the firmware's tables name who made the
 * virtual machine.  Asking the metadata services would know more, but that takes network,
 * seconds, and a secret or two in the answer.
 */

#include "resource.h"

#include <stdio.h>
#include <string.h>

/* ---- platforms, by a variable that only they set --------------------------------- */

static const struct platform {
    const char *variable, *provider, *platform;
    const char *name, *version, *region; /* variables with more */
} platforms[] = {
    { "AWS_LAMBDA_FUNCTION_NAME", "aws", "aws_lambda", "AWS_LAMBDA_FUNCTION_NAME",
      "AWS_LAMBDA_FUNCTION_VERSION", "AWS_REGION" },
    { "ECS_CONTAINER_METADATA_URI_V4", "aws", "aws_ecs", NULL, NULL, "AWS_REGION" },
    { "ECS_CONTAINER_METADATA_URI", "aws", "aws_ecs", NULL, NULL, "AWS_REGION" },
    { "K_SERVICE", "gcp", "gcp_cloud_run", "K_SERVICE", "K_REVISION", "GOOGLE_CLOUD_REGION" },
    { "GAE_SERVICE", "gcp", "gcp_app_engine", "GAE_SERVICE", "GAE_VERSION",
      "GOOGLE_CLOUD_REGION" },
    { "CONTAINER_APP_NAME", "azure", "azure.container_apps", "CONTAINER_APP_NAME",
      "CONTAINER_APP_REVISION", "REGION_NAME" },
    { "FUNCTIONS_EXTENSION_VERSION", "azure", "azure.functions", "WEBSITE_SITE_NAME", NULL,
      "REGION_NAME" },
    { "WEBSITE_SITE_NAME", "azure", "azure.app_service", NULL, NULL, "REGION_NAME" },
    { "FC_FUNCTION_NAME", "alibaba_cloud", "alibaba_cloud_fc", "FC_FUNCTION_NAME",
      "FC_QUALIFIER", "FC_REGION" },
    { "SCF_FUNCTIONNAME", "tencent_cloud", "tencent_cloud_scf", "SCF_FUNCTIONNAME",
      "SCF_FUNCTIONVERSION", "TENCENTCLOUD_REGION" },
    { "DYNO", "heroku", NULL, NULL, NULL, NULL },
};

/* A region that only one cloud's tools set, wherever the process runs. */
static const struct {
    const char *variable, *provider;
} regions[] = {
    { "AWS_REGION", "aws" },
    { "AWS_DEFAULT_REGION", "aws" },
    { "GOOGLE_CLOUD_REGION", "gcp" },
    { "ALIBABA_CLOUD_REGION_ID", "alibaba_cloud" },
    { "TENCENTCLOUD_REGION", "tencent_cloud" },
};

static const char *
said(const struct ob_resource *r, const char *variable)
{
    const char *value = variable != NULL ? r->env(variable) : NULL;

    return value != NULL && value[0] != '\0' ? value : NULL;
}

static void
put(struct ob_resource *r, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0')
        (void)ob_resource_put(r, key, value);
}

static const char *
provider_of(const struct ob_resource *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->list[i].key, "cloud.provider") == 0)
            return r->list[i].value;
    return NULL;
}

static void
find_platform(struct ob_resource *r)
{
    for (size_t i = 0; i < sizeof platforms / sizeof platforms[0]; i++) {
        const struct platform *p = &platforms[i];

        if (said(r, p->variable) == NULL)
            continue;
        put(r, "cloud.provider", p->provider);
        put(r, "cloud.platform", p->platform);
        put(r, "cloud.region", said(r, p->region));
        put(r, "faas.name", said(r, p->name));
        put(r, "faas.version", said(r, p->version));
        return;
    }
}

/* ---- Kubernetes, containers ------------------------------------------------------ */

static void
find_cluster(struct ob_resource *r)
{
    char              text[256];
    static const char account[] = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

    if (said(r, "KUBERNETES_SERVICE_HOST") == NULL)
        return;
    ob_resource_env(r, "k8s.pod.name", "K8S_POD_NAME");
    ob_resource_env(r, "k8s.pod.name", "POD_NAME");
    ob_resource_env(r, "k8s.pod.name", "HOSTNAME");
    ob_resource_env(r, "k8s.pod.uid", "K8S_POD_UID");
    ob_resource_env(r, "k8s.pod.uid", "POD_UID");
    ob_resource_env(r, "k8s.namespace.name", "K8S_NAMESPACE");
    ob_resource_env(r, "k8s.namespace.name", "POD_NAMESPACE");
    if (ob_resource_read(r, account, text, sizeof text) > 0)
        put(r, "k8s.namespace.name", text);
    ob_resource_env(r, "k8s.node.name", "K8S_NODE_NAME");
    ob_resource_env(r, "k8s.node.name", "NODE_NAME");
    ob_resource_env(r, "k8s.container.name", "K8S_CONTAINER_NAME");
    ob_resource_env(r, "k8s.container.name", "CONTAINER_NAME");
    ob_resource_env(r, "k8s.cluster.name", "K8S_CLUSTER_NAME");
}

/* The last run of exactly 64 hexadecimal digits, which is how runtimes name containers. */
static bool
find_hex(const char *text, const char *after, char out[65])
{
    bool got = false;

    for (const char *at = text; *at != '\0';) {
        size_t n = strspn(at, "0123456789abcdef");

        if (n == 64 &&
            (after == NULL || ((size_t)(at - text) >= strlen(after) &&
                               memcmp(at - strlen(after), after, strlen(after)) == 0))) {
            memcpy(out, at, 64);
            out[64] = '\0';
            got = true;
        }
        at += n > 0 ? n : 1;
    }
    return got;
}

static void
find_container(struct ob_resource *r)
{
    static char text[32 * 1024]; /* found once, under the lock */
    char        id[65];

    /* Version 1 of control groups names it; with version 2 the mounts of /etc/hosts and so on do. */
    if (ob_resource_read(r, "/proc/self/cgroup", text, sizeof text) > 0 &&
        find_hex(text, NULL, id))
        put(r, "container.id", id);
    else if (ob_resource_read(r, "/proc/self/mountinfo", text, sizeof text) > 0 &&
             (find_hex(text, "/containers/", id) || find_hex(text, "-containers/", id) ||
              find_hex(text, "/sandboxes/", id)))
        put(r, "container.id", id);
}

/* ---- cloud-init ------------------------------------------------------------------ */

static const struct {
    const char *name, *provider, *platform;
} clouds[] = {
    { "aws", "aws", "aws_ec2" },
    { "gce", "gcp", "gcp_compute_engine" },
    { "azure", "azure", "azure.vm" },
    { "aliyun", "alibaba_cloud", "alibaba_cloud_ecs" },
    { "tencentcloud", "tencent_cloud", "tencent_cloud_cvm" },
    { "ibmcloud", "ibm_cloud", NULL },
    { "oracle", "oracle_cloud", "oracle_cloud_compute" },
};

/* The text of "key": "text" behind `at`; false if there is none, or it has an escape. */
static bool
json_text(const char *at, const char *key, char *out, size_t size)
{
    char        quoted[64];
    const char *end;

    (void)snprintf(quoted, sizeof quoted, "\"%s\"", key);
    at = strstr(at, quoted);
    if (at == NULL)
        return false;
    at += strlen(quoted);
    at += strspn(at, " \t\n:");
    if (*at++ != '"')
        return false;
    end = at + strcspn(at, "\"\\\n");
    if (*end != '"' || (size_t)(end - at) >= size)
        return false;
    memcpy(out, at, (size_t)(end - at));
    out[end - at] = '\0';
    return true;
}

static void
find_instance(struct ob_resource *r)
{
    static char text[64 * 1024];
    char        value[128];
    const char *v1;

    if (ob_resource_read(r, "/run/cloud-init/instance-data.json", text, sizeof text) == 0)
        return;
    v1 = strstr(text, "\"v1\"");
    if (v1 == NULL || !json_text(v1, "cloud_name", value, sizeof value))
        return;
    for (size_t i = 0; i < sizeof clouds / sizeof clouds[0]; i++)
        if (strcmp(value, clouds[i].name) == 0) {
            put(r, "cloud.provider", clouds[i].provider);
            put(r, "cloud.platform", clouds[i].platform);
        }
    if (strcmp(value, "none") != 0 && strcmp(value, "nocloud") != 0 &&
        strcmp(value, "unknown") != 0)
        put(r, "cloud.provider", value);
    if (json_text(v1, "region", value, sizeof value))
        put(r, "cloud.region", value);
    if (json_text(v1, "availability_zone", value, sizeof value))
        put(r, "cloud.availability_zone", value);
    if (json_text(v1, "instance_id", value, sizeof value))
        put(r, "host.id", value);
}

/* ---- the firmware's tables ------------------------------------------------------- */

static const struct {
    const char *file, *begins, *provider, *platform;
} makers[] = {
    { "sys_vendor", "Amazon EC2", "aws", "aws_ec2" },
    { "bios_vendor", "Amazon EC2", "aws", "aws_ec2" },
    { "product_name", "Google Compute Engine", "gcp", "gcp_compute_engine" },
    { "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure", "azure.vm" },
    { "sys_vendor", "Alibaba Cloud", "alibaba_cloud", "alibaba_cloud_ecs" },
    { "sys_vendor", "Tencent Cloud", "tencent_cloud", "tencent_cloud_cvm" },
    { "chassis_asset_tag", "OracleCloud.com", "oracle_cloud", "oracle_cloud_compute" },
    { "sys_vendor", "DigitalOcean", "digitalocean", NULL },
    { "sys_vendor", "Hetzner", "hetzner", NULL },
    { "product_name", "OpenStack", "openstack", NULL },
};

static void
find_maker(struct ob_resource *r)
{
    char path[64], text[128];

    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        (void)snprintf(path, sizeof path, "/sys/class/dmi/id/%s", makers[i].file);
        if (ob_resource_read(r, path, text, sizeof text) == 0 ||
            strncmp(text, makers[i].begins, strlen(makers[i].begins)) != 0)
            continue;
        put(r, "cloud.provider", makers[i].provider);
        put(r, "cloud.platform", makers[i].platform);
        return;
    }
}

void
ob_resource_cloud(struct ob_resource *r)
{
    const char *provider;

    find_platform(r);
    find_cluster(r);
    find_container(r);
    find_instance(r);
    find_maker(r);
    /* A region alone says which cloud's only if nothing else does, or they agree. */
    provider = provider_of(r);
    for (size_t i = 0; i < sizeof regions / sizeof regions[0]; i++) {
        if (said(r, regions[i].variable) == NULL ||
            (provider != NULL && strcmp(provider, regions[i].provider) != 0))
            continue;
        put(r, "cloud.provider", regions[i].provider);
        put(r, "cloud.region", said(r, regions[i].variable));
        return;
    }
}
