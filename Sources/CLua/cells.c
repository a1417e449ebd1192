/* The cells of a registry: made under its lock, never removed, read and written by atomics.
 *
 * New ones are put in front of the list with their members filled in, so a search needs the lock but a pointer that
 * was handed out does not. The lock itself, with one queue too: the main thread looks for marks and the state. */
#include "include/cells.h"
#include "shared_state.h"
#include <stdlib.h>
#include <string.h>

enum { CELLS_MAX = 1 << 16 };

static struct us_cell *find(struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length) {
    for (struct us_cell *cell = shared->cells; cell != NULL; cell = cell->next)
        if (cell->kind == kind && strlen(cell->name) == length && memcmp(cell->name, name, length) == 0)
            return cell;
    return NULL;
}

static struct us_cell *make(struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length) {
    if (length > US_NAME_MAX || shared->cell_count == CELLS_MAX)
        return NULL;
    struct us_cell *cell = calloc(1, sizeof *cell + length + 1);
    if (cell == NULL)
        return NULL;
    cell->kind = kind;
    cell->number = ++shared->cell_numbers[kind];
    memcpy(cell->name, name, length);
    cell->next = shared->cells;
    shared->cells = cell;
    shared->cell_count++;
    return cell;
}

struct us_cell *us_shared_cell(struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length) {
    pthread_mutex_lock(&shared->lock);
    struct us_cell *cell = find(shared, kind, name, length);
    if (cell == NULL)
        cell = make(shared, kind, name, length);
    pthread_mutex_unlock(&shared->lock);
    return cell;
}

struct us_cell *us_shared_find_cell(
    struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length) {
    pthread_mutex_lock(&shared->lock);
    struct us_cell *cell = find(shared, kind, name, length);
    pthread_mutex_unlock(&shared->lock);
    return cell;
}

struct us_cell *us_shared_cell_at(struct us_shared *shared, enum us_cell_kind kind, uint32_t number) {
    pthread_mutex_lock(&shared->lock);
    struct us_cell *cell = shared->cells;
    while (cell != NULL && (cell->kind != kind || cell->number != number))
        cell = cell->next;
    pthread_mutex_unlock(&shared->lock);
    return cell;
}

void us_shared_free_cells(struct us_shared *shared) {
    while (shared->cells != NULL) {
        struct us_cell *next = shared->cells->next;
        free(shared->cells);
        shared->cells = next;
    }
}
