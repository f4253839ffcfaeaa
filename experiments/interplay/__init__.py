"""interplay: do schedule, optimizer and regularization change what is best of each other?"""
