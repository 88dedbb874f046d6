/*
 * tests/crash/disk_state.c - operations, what became of each, and the files that makes.
 */
#include "tests/crash/disk_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

#define SECTOR_BYTES 512

/* One file, directory or link of the simulated disk. */
struct image {
    enum disk_type type;
    uint8_t *data; /* (bytes), room for more; heap */
    uint64_t bytes, data_room;
    struct disk_entry *entry; /* [n_entries]; heap */
    uint32_t n_entries, entry_room;
    uint64_t hash; /* of data; valid while hashed */
    bool hashed;
};

struct disk_model {
    const struct disk_log *log;
    uint32_t n_objects;
    uint32_t issued;
    uint32_t n_pending;
    uint32_t *pending;     /* [n_ops] indices of operations */
    bool *doomed;          /* [n_ops] an fsync failed over it: no later one helps */
    struct image *durable; /* [n_objects] */
    struct image *scratch; /* [n_objects] the objects that pending operations touch */
    bool *touched;         /* [n_objects] */
};

static void *must(void *memory)
{
    CLLM_ASSERT(memory != NULL);
    return memory;
}

/* ---- images ---- */

static void image_reserve(struct image *image, uint64_t bytes)
{
    if (bytes <= image->data_room)
        return;
    image->data = must(realloc(image->data, bytes));
    image->data_room = bytes;
}

static void image_grow(struct image *image, uint64_t bytes)
{
    if (bytes <= image->bytes)
        return;
    image_reserve(image, bytes);
    memset(image->data + image->bytes, 0, bytes - image->bytes);
    image->bytes = bytes;
}

static void image_copy(struct image *to, const struct image *from)
{
    image_reserve(to, from->bytes + 1);
    if (from->bytes > 0)
        memcpy(to->data, from->data, from->bytes);
    to->bytes = from->bytes;
    if (from->n_entries > to->entry_room) {
        to->entry = must(realloc(to->entry, from->n_entries * sizeof *to->entry));
        to->entry_room = from->n_entries;
    }
    if (from->n_entries > 0)
        memcpy(to->entry, from->entry, from->n_entries * sizeof *to->entry);
    to->n_entries = from->n_entries;
    to->type = from->type;
    to->hash = from->hash;
    to->hashed = from->hashed;
}

static void image_free(struct image *image)
{
    free(image->data);
    free(image->entry);
}

/* Entry @name := @object; DISK_NOTHING removes it. */
static void set_entry(struct image *dir, const char *name, uint32_t object)
{
    uint32_t i = 0;

    while (i < dir->n_entries && strcmp(dir->entry[i].name, name) != 0)
        i++;
    if (object == DISK_NOTHING) {
        if (i < dir->n_entries)
            dir->entry[i] = dir->entry[--dir->n_entries];
        return;
    }
    if (i == dir->entry_room) {
        dir->entry_room = dir->entry_room * 2 + 4;
        dir->entry = must(realloc(dir->entry, dir->entry_room * sizeof *dir->entry));
    }
    if (i == dir->n_entries)
        dir->n_entries++;
    (void)snprintf(dir->entry[i].name, sizeof dir->entry[i].name, "%s", name);
    dir->entry[i].object = object;
}

/* The part of a write that came to pass, unit by unit of @unit bytes of the file. */
static void write_torn(struct image *file, const struct disk_op *op, uint64_t unit,
                       uint64_t mask)
{
    uint64_t end = op->off + op->bytes;

    for (uint64_t at = op->off; at < end;) {
        uint64_t next = cllm_min_u64((at / unit + 1) * unit, end);

        if ((mask >> (at / unit % 64) & 1) != 0) {
            image_grow(file, next);
            memcpy(file->data + at, op->data + (at - op->off), next - at);
        }
        at = next;
    }
}

static void apply_write(struct image *file, const struct disk_op *op,
                        const struct disk_choice *choice)
{
    if (choice->fate == DISK_SECTORS) {
        write_torn(file, op, SECTOR_BYTES, choice->mask);
        return;
    }
    if (choice->fate == DISK_PAGES) {
        write_torn(file, op, CLLM_PAGE, choice->mask);
        return;
    }
    image_grow(file, op->off + op->bytes);
    if (choice->fate == DISK_DONE)
        memcpy(file->data + op->off, op->data, op->bytes);
}

/* The object whose image @op changes; DISK_NOTHING for a sync and a mark. */
static uint32_t target_of(const struct disk_op *op)
{
    switch (op->kind) {
    case DISK_WRITE:
    case DISK_SIZE:
        return op->object;
    case DISK_CREATE:
    case DISK_REMOVE:
    case DISK_RENAME:
    case DISK_EXCHANGE:
        return op->dir;
    case DISK_SYNC:
    case DISK_SYNC_FAILED:
    case DISK_DURABLE:
    default:
        return DISK_NOTHING;
    }
}

static void apply(struct image *image, const struct disk_op *op,
                  const struct disk_choice *choice)
{
    image->hashed = false;
    switch (op->kind) {
    case DISK_CREATE:
        set_entry(image, op->name, op->object);
        break;
    case DISK_REMOVE:
        set_entry(image, op->name, DISK_NOTHING);
        break;
    case DISK_RENAME:
        if (choice->fate != DISK_BOTH)
            set_entry(image, op->name, DISK_NOTHING);
        if (choice->fate != DISK_NEITHER)
            set_entry(image, op->to, op->object);
        break;
    case DISK_EXCHANGE:
        set_entry(image, op->name, op->other);
        set_entry(image, op->to, op->object);
        break;
    case DISK_WRITE:
        apply_write(image, op, choice);
        break;
    case DISK_SIZE:
        image_grow(image, op->bytes);
        break;
    case DISK_SYNC:
    case DISK_SYNC_FAILED:
    case DISK_DURABLE:
    default:
        break;
    }
}

/* ---- the model ---- */

struct disk_model *disk_model_new(const struct disk_log *log)
{
    struct disk_model *model = must(calloc(1, sizeof *model));

    model->log = log;
    model->n_objects = log->n_objects;
    model->doomed = must(calloc(log->n_ops + 1, sizeof *model->doomed));
    model->pending = must(calloc(log->n_ops + 1, sizeof *model->pending));
    model->durable = must(calloc(log->n_objects, sizeof *model->durable));
    model->scratch = must(calloc(log->n_objects, sizeof *model->scratch));
    model->touched = must(calloc(log->n_objects, sizeof *model->touched));
    for (uint32_t i = 0; i < log->n_objects; i++) {
        const struct disk_object *object = &log->object[i];
        struct image begin = {.type = object->type,
                              .data = object->data,
                              .bytes = object->bytes,
                              .entry = object->entry,
                              .n_entries = object->n_entries};

        image_copy(&model->durable[i], &begin);
    }
    return model;
}

void disk_model_free(struct disk_model **model)
{
    struct disk_model *old = *model;

    *model = NULL;
    if (old == NULL)
        return;
    for (uint32_t i = 0; i < old->n_objects; i++) {
        image_free(&old->durable[i]);
        image_free(&old->scratch[i]);
    }
    free(old->durable);
    free(old->scratch);
    free(old->touched);
    free(old->pending);
    free(old->doomed);
    free(old);
}

/* What is pending for @object is durable now. */
static void make_durable(struct disk_model *model, uint32_t object)
{
    static const struct disk_choice done = {.fate = DISK_DONE};
    uint32_t left = 0;

    for (uint32_t i = 0; i < model->n_pending; i++) {
        const struct disk_op *op = &model->log->op[model->pending[i]];

        if (target_of(op) == object && !model->doomed[model->pending[i]])
            apply(&model->durable[object], op, &done);
        else
            model->pending[left++] = model->pending[i];
    }
    model->n_pending = left;
}

/* The kernel has marked the pages of @object clean, and they are not on the disk. */
static void doom(struct disk_model *model, uint32_t object)
{
    for (uint32_t i = 0; i < model->n_pending; i++)
        if (target_of(&model->log->op[model->pending[i]]) == object)
            model->doomed[model->pending[i]] = true;
}

bool disk_model_advance(struct disk_model *model, bool ignore_sync)
{
    const struct disk_op *op;

    if (model->issued == model->log->n_ops)
        return false;
    op = &model->log->op[model->issued];
    if (op->kind == DISK_SYNC && !ignore_sync)
        make_durable(model, op->object);
    else if (op->kind == DISK_SYNC_FAILED)
        doom(model, op->object);
    else if (target_of(op) != DISK_NOTHING)
        model->pending[model->n_pending++] = model->issued;
    model->issued++;
    return true;
}

uint32_t disk_model_issued(const struct disk_model *model)
{
    return model->issued;
}

uint32_t disk_model_pending(const struct disk_model *model)
{
    return model->n_pending;
}

const struct disk_op *disk_model_op(const struct disk_model *model, uint32_t i)
{
    return &model->log->op[model->pending[i]];
}

/* ---- trees ---- */

static struct disk_node *add_node(struct disk_tree *tree)
{
    if (tree->n == tree->room) {
        tree->room = tree->room * 2 + 16;
        tree->node = must(realloc(tree->node, tree->room * sizeof *tree->node));
    }
    return &tree->node[tree->n++];
}

static void set_path(char out[2 * DISK_NAME_BYTES], const char *dir, const char *name)
{
    int n = snprintf(out, 2 * DISK_NAME_BYTES, "%s%s%s", dir, dir[0] ? "/" : "", name);

    CLLM_ASSERT(n >= 0 && n < 2 * DISK_NAME_BYTES);
}

/* Object @id under the name @path, and what is below it. */
static void grow(const struct disk_model *model, struct disk_tree *tree, uint32_t id,
                 const char *path)
{
    struct image *image = model->touched[id] ? &model->scratch[id] : &model->durable[id];
    struct disk_node *node = add_node(tree);
    char below[2 * DISK_NAME_BYTES];

    if (!image->hashed)
        image->hash = cllm_hash(image->data, image->bytes, image->type);
    image->hashed = true;
    *node = (struct disk_node){.type = image->type,
                               .hash = image->hash,
                               .data = image->data,
                               .bytes = image->bytes};
    set_path(node->path, "", path);
    for (uint32_t i = 0; i < image->n_entries; i++) {
        set_path(below, path, image->entry[i].name);
        grow(model, tree, image->entry[i].object, below);
    }
}

static int by_path(const void *a, const void *b)
{
    const struct disk_node *left = a, *right = b;

    return strcmp(left->path, right->path);
}

static void finish_tree(struct disk_tree *tree)
{
    qsort(tree->node, tree->n, sizeof *tree->node, by_path);
    tree->hash = tree->n;
    for (uint32_t i = 0; i < tree->n; i++) {
        const struct disk_node *node = &tree->node[i];

        tree->hash = cllm_hash(node->path, strlen(node->path), tree->hash ^ node->hash);
    }
}

void disk_model_tree(struct disk_model *model, const struct disk_choice *choice,
                     struct disk_tree *tree)
{
    memset(model->touched, 0, model->n_objects * sizeof *model->touched);
    for (uint32_t i = 0; i < model->n_pending; i++) {
        const struct disk_op *op = disk_model_op(model, i);
        uint32_t id = target_of(op);

        if (choice[i].fate == DISK_LOST)
            continue;
        if (!model->touched[id])
            image_copy(&model->scratch[id], &model->durable[id]);
        model->touched[id] = true;
        apply(&model->scratch[id], op, &choice[i]);
    }
    tree->n = 0;
    grow(model, tree, 0, "");
    finish_tree(tree);
}

void disk_tree_free(struct disk_tree *tree)
{
    free(tree->node);
    *tree = (struct disk_tree){0};
}

const struct disk_node *disk_tree_find(const struct disk_tree *tree, const char *path)
{
    struct disk_node key;

    set_path(key.path, "", path);
    return tree->n == 0 ? NULL
                        : bsearch(&key, tree->node, tree->n, sizeof *tree->node, by_path);
}

/* ---- files ---- */

static void join(char out[2048], const char *root, const char *path)
{
    int n = snprintf(out, 2048, "%s/%s", root, path);

    CLLM_ASSERT(n > 0 && n < 2048);
}

static void put_node(const char *path, const struct disk_node *node)
{
    int fd;

    if (node->type == DISK_DIRECTORY) {
        CLLM_ASSERT(mkdir(path, 0777) == 0);
        return;
    }
    if (node->type == DISK_LINK) {
        char target[DISK_NAME_BYTES];

        CLLM_ASSERT(node->bytes < sizeof target);
        memcpy(target, node->data, node->bytes);
        target[node->bytes] = '\0';
        CLLM_ASSERT(symlink(target, path) == 0);
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CLLM_ASSERT(fd >= 0);
    CLLM_ASSERT(write(fd, node->data, node->bytes) == (ssize_t)node->bytes);
    CLLM_ASSERT(close(fd) == 0);
}

void disk_tree_put(const char *root, struct disk_tree *there,
                   const struct disk_tree *tree)
{
    char path[2048];

    for (uint32_t i = there->n; i-- > 0;) { /* what is in a directory before itself */
        const struct disk_node *old = &there->node[i];
        const struct disk_node *new = disk_tree_find(tree, old->path);

        if (new != NULL &&new->type == old->type && old->type != DISK_LINK)
            continue;
        join(path, root, old->path);
        CLLM_ASSERT((old->type == DISK_DIRECTORY ? rmdir(path) : unlink(path)) == 0);
    }
    for (uint32_t i = 0; i < tree->n; i++) {
        const struct disk_node *node = &tree->node[i];
        const struct disk_node *old = disk_tree_find(there, node->path);
        bool stays = old != NULL && old->type == node->type && old->type != DISK_LINK;

        if (node->path[0] == '\0' ||
            (stays && (node->type == DISK_DIRECTORY || old->hash == node->hash)))
            continue;
        join(path, root, node->path);
        put_node(path, node);
    }
    there->n = 0;
    for (uint32_t i = 0; i < tree->n; i++)
        *add_node(there) = tree->node[i];
    there->hash = tree->hash;
}

/* Add what is at @root/@path to @tree; its data are hashed and not kept. */
static void gather(const char *root, const char *path, struct disk_tree *tree)
{
    struct disk_node *node = add_node(tree);
    char full[2048], below[2 * DISK_NAME_BYTES];
    static uint8_t data[1u << 20];
    const struct dirent *entry;
    struct stat st;
    ssize_t n = 0;

    join(full, root, path);
    CLLM_ASSERT(lstat(full, &st) == 0);
    *node = (struct disk_node){.type = S_ISDIR(st.st_mode)   ? DISK_DIRECTORY
                                       : S_ISLNK(st.st_mode) ? DISK_LINK
                                                             : DISK_FILE};
    set_path(node->path, "", path);
    if (node->type == DISK_LINK) {
        n = readlink(full, (char *)data, sizeof data);
    } else if (node->type == DISK_FILE) {
        int fd = open(full, O_RDONLY | O_CLOEXEC);

        CLLM_ASSERT(fd >= 0);
        n = read(fd, data, sizeof data);
        (void)close(fd); /* read only */
    }
    CLLM_ASSERT(n >= 0);
    node->hash = cllm_hash(data, (size_t)n, node->type);
    if (node->type != DISK_DIRECTORY)
        return;
    DIR *dir = opendir(full);
    CLLM_ASSERT(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        set_path(below, path, entry->d_name);
        gather(root, below, tree);
    }
    (void)closedir(dir); /* read only */
}

uint64_t disk_tree_hash_of(const char *root)
{
    struct disk_tree tree = {0};
    uint64_t hash;

    gather(root, "", &tree);
    finish_tree(&tree);
    hash = tree.hash;
    disk_tree_free(&tree);
    return hash;
}
