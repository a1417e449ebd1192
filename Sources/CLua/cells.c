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
    return us_names_find(&shared->cell_names, kind, name, length);
}

/* Room for the next number of a kind: there are twice as many places whenever they are full. */
static bool reserve_number(struct us_shared *shared, enum us_cell_kind kind) {
    size_t count = shared->cell_numbers[kind];
    if ((count & (count - 1)) != 0)
        return true;
    struct us_cell **more = realloc(shared->numbered[kind], (count == 0 ? 1 : count * 2) * sizeof *more);
    if (more == NULL)
        return false;
    shared->numbered[kind] = more;
    return true;
}

static struct us_cell *make(struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length) {
    if (length > US_NAME_MAX || shared->cell_count == CELLS_MAX)
        return NULL;
    if (!us_names_reserve(&shared->cell_names) || !reserve_number(shared, kind))
        return NULL;
    struct us_cell *cell = calloc(1, sizeof *cell + length + 1);
    if (cell == NULL)
        return NULL;
    cell->kind = kind;
    cell->number = ++shared->cell_numbers[kind];
    memcpy(cell->name, name, length);
    us_names_add(&shared->cell_names, kind, cell->name, length, cell);
    shared->numbered[kind][cell->number - 1] = cell;
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
    bool is_there = number != 0 && number <= shared->cell_numbers[kind];
    struct us_cell *cell = is_there ? shared->numbered[kind][number - 1] : NULL;
    pthread_mutex_unlock(&shared->lock);
    return cell;
}

void us_shared_free_cells(struct us_shared *shared) {
    while (shared->cells != NULL) {
        struct us_cell *next = shared->cells->next;
        free(shared->cells);
        shared->cells = next;
    }
    for (size_t kind = 0; kind < sizeof shared->numbered / sizeof *shared->numbered; kind++)
        free(shared->numbered[kind]);
}
