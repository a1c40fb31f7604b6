"""`athanor serve`: one command starts gateway and worker, keeps them alive, and leaves nothing behind."""
