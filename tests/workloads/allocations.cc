// Allocates with `new`: `make MIB` keeps what it makes, and gives every second one back.

#include <vector>

#include "control.h"

struct Node {
    char bytes[2048];
};

static std::vector<Node *> nodes;

// Not a tail call: its frame would be gone.
NAMED Node *make_node() {
    Node *node = new Node;
    node->bytes[0] = 1;
    return node;
}

NAMED void keep_with_new(uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        Node *node = make_node();
        if (i % 2 == 0) {
            nodes.push_back(node);
        } else {
            delete node;
        }
    }
}

int main() {
    char line[128];
    unsigned mib;
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        if (sscanf(line, "make %u", &mib) == 1) {
            nodes.reserve(mib * 512);
            keep_with_new(mib * 512);
            answer("done");
        }
    }
    return 0;
}
