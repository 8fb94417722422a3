"""Process groups, collectives and DDP: the only room that knows torch.distributed."""
