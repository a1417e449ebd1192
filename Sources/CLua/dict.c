/* Shared tables: chained hash tables that grow by doubling, in C memory, counted together for a device. */
#include "include/dict.h"
#include "shared_state.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { DICTS_MAX = 1 << 16 };

struct entry {
    struct entry *next;
    uint64_t hash;
    enum us_value_type key_type, type;
    int64_t key_integer, integer;
    double number;
    size_t key_length, length;
    char text[]; /* the key's, then the value's */
};

struct us_dict {
    struct us_shared *shared;
    struct us_dict *next;
    pthread_mutex_t lock;
    struct entry **buckets;
    size_t bucket_count; /* a power of two, or 0 */
    size_t count;
    char name[US_NAME_MAX + 1];
};

struct us_dict *us_shared_dict(struct us_shared *shared, const char *name, size_t length) {
    if (length > US_NAME_MAX)
        return NULL;
    us_shared_lock(shared);
    struct us_dict *dict = us_names_find(&shared->dict_names, 0, name, length);
    if (dict == NULL && shared->dict_count < DICTS_MAX && us_names_reserve(&shared->dict_names)
        && (dict = calloc(1, sizeof *dict)) != NULL) {
        memcpy(dict->name, name, length);
        us_names_add(&shared->dict_names, 0, dict->name, length, dict);
        shared->dict_count++;
        pthread_mutex_init(&dict->lock, NULL);
        dict->shared = shared;
        dict->next = shared->dicts;
        shared->dicts = dict;
    }
    us_shared_unlock(shared);
    return dict;
}

/* ---- memory ---- */

static bool charge(struct us_shared *shared, size_t bytes) {
    if (atomic_fetch_add_explicit(&shared->dict_bytes, bytes, memory_order_relaxed) + bytes <= US_DICT_BYTES_MAX)
        return true;
    atomic_fetch_sub_explicit(&shared->dict_bytes, bytes, memory_order_relaxed);
    return false;
}

static void discharge(struct us_shared *shared, size_t bytes) {
    atomic_fetch_sub_explicit(&shared->dict_bytes, bytes, memory_order_relaxed);
}

static size_t size_of(const struct entry *entry) {
    return sizeof *entry + entry->key_length + entry->length;
}

static void free_entry(struct us_dict *dict, struct entry *entry) {
    discharge(dict->shared, size_of(entry));
    free(entry);
}

static struct entry *make_entry(
    struct us_dict *dict, uint64_t hash, const struct us_value *key, const struct us_value *value) {
    size_t key_length = key->type == US_VALUE_TEXT ? key->length : 0;
    size_t length = value->type == US_VALUE_TEXT ? value->length : 0;
    size_t size = sizeof(struct entry) + key_length + length;
    if (!charge(dict->shared, size))
        return NULL;
    struct entry *entry = malloc(size);
    if (entry == NULL) {
        discharge(dict->shared, size);
        return NULL;
    }
    *entry = (struct entry){.hash = hash, .key_type = key->type, .type = value->type, .key_integer = key->integer,
        .integer = value->integer, .number = value->number, .key_length = key_length, .length = length};
    if (key_length > 0)
        memcpy(entry->text, key->text, key_length);
    if (length > 0)
        memcpy(entry->text + key_length, value->text, length);
    return entry;
}

/* ---- finding ---- */

/* FNV-1a; the scripts that choose the keys have nobody to attack but themselves. */
static uint64_t hash_of(const struct us_value *key) {
    const unsigned char *bytes = key->type == US_VALUE_TEXT ? (const void *)key->text : (const void *)&key->integer;
    size_t length = key->type == US_VALUE_TEXT ? key->length : sizeof key->integer;
    uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)key->type;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

static bool is_key(const struct entry *entry, uint64_t hash, const struct us_value *key) {
    if (entry->hash != hash || entry->key_type != key->type)
        return false;
    if (key->type == US_VALUE_INTEGER)
        return entry->key_integer == key->integer;
    return entry->key_length == key->length && memcmp(entry->text, key->text, key->length) == 0;
}

/* Where the pointer to the key's entry is, or would be; NULL: the table has no room yet. */
static struct entry **find(struct us_dict *dict, uint64_t hash, const struct us_value *key) {
    if (dict->bucket_count == 0)
        return NULL;
    struct entry **link = &dict->buckets[hash & (dict->bucket_count - 1)];
    while (*link != NULL && !is_key(*link, hash, key))
        link = &(*link)->next;
    return link;
}

/* Twice the buckets. Without memory for them chains get longer. */
static void grow(struct us_dict *dict) {
    size_t count = dict->bucket_count == 0 ? 16 : dict->bucket_count * 2;
    if (!charge(dict->shared, count * sizeof(struct entry *)))
        return;
    struct entry **buckets = calloc(count, sizeof *buckets);
    if (buckets == NULL) {
        discharge(dict->shared, count * sizeof *buckets);
        return;
    }
    for (size_t i = 0; i < dict->bucket_count; i++)
        while (dict->buckets[i] != NULL) {
            struct entry *entry = dict->buckets[i];
            dict->buckets[i] = entry->next;
            entry->next = buckets[entry->hash & (count - 1)];
            buckets[entry->hash & (count - 1)] = entry;
        }
    discharge(dict->shared, dict->bucket_count * sizeof *buckets);
    free(dict->buckets);
    dict->buckets = buckets;
    dict->bucket_count = count;
}

/* Puts an entry in place of the one with its key, or removes that. Under the lock. */
static bool put(struct us_dict *dict, uint64_t hash, const struct us_value *key, struct entry *entry) {
    if (entry != NULL && dict->count >= dict->bucket_count)
        grow(dict);
    struct entry **link = find(dict, hash, key);
    if (link == NULL)
        return entry == NULL;
    struct entry *old = *link;
    if (entry != NULL) {
        entry->next = old != NULL ? old->next : NULL;
        *link = entry;
    } else if (old != NULL) {
        *link = old->next;
    }
    dict->count += (entry != NULL) - (size_t)(old != NULL);
    if (old != NULL)
        free_entry(dict, old);
    return true;
}

/* ---- operations ---- */

bool us_dict_get(struct us_dict *dict, const struct us_value *key, struct us_value *value, char *text) {
    uint64_t hash = hash_of(key);
    pthread_mutex_lock(&dict->lock);
    struct entry **link = find(dict, hash, key);
    const struct entry *entry = link != NULL ? *link : NULL;
    if (entry != NULL) {
        *value = (struct us_value){entry->type, entry->integer, entry->number, text, entry->length};
        if (entry->length > 0)
            memcpy(text, entry->text + entry->key_length, entry->length);
    }
    pthread_mutex_unlock(&dict->lock);
    return entry != NULL;
}

bool us_dict_set(struct us_dict *dict, const struct us_value *key, const struct us_value *value) {
    uint64_t hash = hash_of(key);
    struct entry *entry = value->type != US_VALUE_NONE ? make_entry(dict, hash, key, value) : NULL;
    if (entry == NULL && value->type != US_VALUE_NONE)
        return false;
    pthread_mutex_lock(&dict->lock);
    bool done = put(dict, hash, key, entry);
    pthread_mutex_unlock(&dict->lock);
    if (!done && entry != NULL)
        free_entry(dict, entry);
    return done;
}

/* Under the lock. False: there is no such key; *done tells whether it holds an integer otherwise. */
static bool add_to_old(
    struct us_dict *dict, uint64_t hash, const struct us_value *key, int64_t amount, int64_t *sum, bool *done) {
    struct entry **link = find(dict, hash, key);
    if (link == NULL || *link == NULL)
        return false;
    *done = (*link)->type == US_VALUE_INTEGER;
    if (*done)
        *sum = (*link)->integer = (int64_t)((uint64_t)(*link)->integer + (uint64_t)amount);
    return true;
}

bool us_dict_add(struct us_dict *dict, const struct us_value *key, int64_t amount, int64_t *sum) {
    uint64_t hash = hash_of(key);
    bool done = false;
    pthread_mutex_lock(&dict->lock);
    bool is_there = add_to_old(dict, hash, key, amount, sum, &done);
    pthread_mutex_unlock(&dict->lock);
    if (is_there)
        return done;
    struct us_value first = {.type = US_VALUE_INTEGER, .integer = amount};
    struct entry *entry = make_entry(dict, hash, key, &first);
    if (entry == NULL)
        return false;
    pthread_mutex_lock(&dict->lock);
    /* Another queue may have been quicker. */
    is_there = add_to_old(dict, hash, key, amount, sum, &done);
    if (!is_there) {
        *sum = amount;
        done = put(dict, hash, key, entry);
    }
    pthread_mutex_unlock(&dict->lock);
    if (is_there || !done)
        free_entry(dict, entry);
    return done;
}

size_t us_dict_count(struct us_dict *dict) {
    pthread_mutex_lock(&dict->lock);
    size_t count = dict->count;
    pthread_mutex_unlock(&dict->lock);
    return count;
}

void us_dict_clear(struct us_dict *dict) {
    pthread_mutex_lock(&dict->lock);
    for (size_t i = 0; i < dict->bucket_count; i++)
        while (dict->buckets[i] != NULL) {
            struct entry *next = dict->buckets[i]->next;
            free_entry(dict, dict->buckets[i]);
            dict->buckets[i] = next;
        }
    dict->count = 0;
    pthread_mutex_unlock(&dict->lock);
}

void us_shared_free_dicts(struct us_shared *shared) {
    while (shared->dicts != NULL) {
        struct us_dict *dict = shared->dicts;
        shared->dicts = dict->next;
        us_dict_clear(dict);
        pthread_mutex_destroy(&dict->lock);
        free(dict->buckets);
        free(dict);
    }
}
