#include "natives.h"

struct us_object_functions us_objects;

void us_use_objects(const struct us_object_functions *functions) {
    us_objects = *functions;
}
