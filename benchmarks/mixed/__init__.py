"""Pictures of many sizes and formats against pictures of one."""
