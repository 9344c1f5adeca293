output "subnet_ids" {
  description = "Where training instances run."
  value       = local.is_own ? [for subnet in aws_subnet.this : subnet.id] : var.existing.subnet_ids
}

output "security_group_id" {
  description = "The security group of training instances."
  value       = aws_security_group.training.id
}
