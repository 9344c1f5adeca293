output "bus_name" {
  description = "The bus."
  value       = aws_cloudwatch_event_bus.this.name
}

output "bus_arn" {
  description = "Its ARN."
  value       = aws_cloudwatch_event_bus.this.arn
}

output "queue_arns" {
  description = "The queues by function."
  value       = { for name, queue in aws_sqs_queue.this : name => queue.arn }
}

output "dead_letter_queue_names" {
  description = "The dead-letter queues by function."
  value       = { for name, queue in aws_sqs_queue.dead : name => queue.name }
}

output "schedule_group_name" {
  description = "The group of schedules."
  value       = aws_scheduler_schedule_group.this.name
}

output "schedule_role_arn" {
  description = "The role that the scheduler publishes with."
  value       = aws_iam_role.scheduler.arn
}
